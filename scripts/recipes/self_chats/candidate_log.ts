/**
 * What was made so far: a line for the settings, then one for every candidate in the order of their numbers, kept or not. A run
 * that ended, however it did, goes on behind the last whole line.
 */

import { Buffer } from "node:buffer";
import { closeSync, existsSync, openSync, readFileSync, truncateSync, writeSync } from "node:fs";
import { FileLock } from "../../../ffi/mod.ts";
import type { Candidate, CandidateSettings } from "./candidate.ts";

/** Everything that decides what a candidate is. */
export interface LogSettings extends CandidateSettings {
  /** Fingerprint of the model. */
  readonly model: string;
}

export class CandidateLog implements Disposable {
  readonly #lock: FileLock;
  readonly #file: number;
  readonly #candidates: Candidate[];

  private constructor(lock: FileLock, file: number, candidates: Candidate[]) {
    this.#lock = lock;
    this.#file = file;
    this.#candidates = candidates;
  }

  /**
   * Opens or begins the log at `path`, for this process alone until it is disposed.
   * @throws where another process has it, or it was begun with other settings
   */
  static open(path: string, settings: LogSettings): CandidateLog {
    const lock = FileLock.take(path);
    if (lock === null) throw new Error(`Cannot write ${path}: another process is writing it`);
    try {
      const { lines, bytes } = wholeLines(path);
      const [begun, ...candidates] = lines;
      const { type, ...found } = begun ?? { type: "settings", ...settings };
      if (type !== "settings") throw new Error(`Cannot continue ${path}: it does not begin with the settings of a run`);
      const differs = Object.keys({ ...found, ...settings }).filter(
        (key) => found[key as keyof LogSettings] !== settings[key as keyof LogSettings],
      );
      if (differs.length > 0) {
        const changes = differs.map(
          (key) => `${key} ${found[key as keyof LogSettings]} instead of ${settings[key as keyof LogSettings]}`,
        );
        throw new Error(`Cannot continue ${path}: it was begun with ${changes.join(", ")}`);
      }
      truncateSync(path, bytes);
      const log = new CandidateLog(lock, openSync(path, "a"), candidates as unknown as Candidate[]);
      if (begun === undefined) log.#write({ type: "settings", ...settings });
      return log;
    } catch (error) {
      lock[Symbol.dispose]();
      throw error;
    }
  }

  /** All so far; candidate n is the n-th. */
  get candidates(): readonly Candidate[] {
    return this.#candidates;
  }

  add(candidate: Candidate): void {
    this.#write(candidate);
    this.#candidates.push(candidate);
  }

  #write(line: object): void {
    writeSync(this.#file, `${JSON.stringify(line)}\n`);
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
    this.#lock[Symbol.dispose]();
  }
}

/** The lines that are whole, and how many bytes they take. A process that was killed can have left half of one. */
function wholeLines(path: string): { lines: (LogSettings & { type?: string })[]; bytes: number } {
  const text = existsSync(path) ? readFileSync(path, "utf8") : "";
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  const lines = whole.split("\n").filter((line) => line !== "");
  return { lines: lines.map((line) => JSON.parse(line)), bytes: Buffer.byteLength(whole) };
}
