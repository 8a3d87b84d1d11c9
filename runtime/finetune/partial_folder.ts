/**
 * `OUT.partial`: where a run keeps its state until it becomes OUT. A state appears whole or not at all, so the folder can be
 * continued from however the run ended.
 *
 *   train.jsonl             settings, then a line for every step and every validation
 *   report.html             the same to look at
 *   checkpoint.safetensors  the state behind some step (checkpoint.ts)
 *   best.safetensors        the values with the lowest validation loss
 *   last-good/              the adapter behind the last step that could be made, where training diverged
 *   teacher/                a teacher's tokens (teacher_cache.ts)
 *   result/                 the result while it is written
 *   lock                    locked by the process that writes here; holds its id
 */
import { appendFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { FileLock } from "../../ffi/mod.ts";
import { isObject, type JsonObject } from "../formats/json.ts";
import {
  emptyFolder,
  LOCK,
  makeFolder,
  partialPath,
  publishResult,
  REPORT,
  readSettings,
  refuseChanges,
  refuseExisting,
  removeTemporary,
  takeLock,
} from "../quantize/partial_folder.ts";
import { SavedState } from "./checkpoint.ts";
import type { LogRecord } from "./records.ts";

export const LOG = "train.jsonl";
const CHECKPOINT = "checkpoint.safetensors";
const BEST = "best.safetensors";
const LAST_GOOD = "last-good";
const TEACHER = "teacher";
const RESULT = "result";
const NAMES: ReadonlySet<string> = new Set([LOG, REPORT, CHECKPOINT, BEST, LAST_GOOD, TEACHER, RESULT, LOCK]);

export class TrainingFolder implements Disposable {
  readonly dir: string;
  /** Where the run continues; null: it begins. */
  readonly saved: SavedState | null;
  /** What happened up to there, and since. */
  readonly records: LogRecord[];
  readonly #lock: FileLock;

  private constructor(dir: string, saved: SavedState | null, records: LogRecord[], lock: FileLock) {
    this.dir = dir;
    this.saved = saved;
    this.records = records;
    this.#lock = lock;
  }

  /**
   * Opens or makes the folder of a run, for this process alone until it is disposed.
   *
   * @param settings everything that decides the result, flat; compared with what the folder was begun with
   * @param about what is only told: the first line of the log holds it too
   * @throws where OUT exists or cannot be made, another process writes the folder, or it belongs to a run with other settings
   */
  static open(out: string, settings: JsonObject, about: JsonObject): TrainingFolder {
    refuseExisting(out);
    const dir = partialPath(out);
    makeFolder(dir, out);
    refuseForeign(dir);
    const lock = takeLock(dir);
    try {
      // The run that held the lock may have just made it.
      refuseExisting(out);
      const path = join(dir, CHECKPOINT);
      const saved = existsSync(path) ? new SavedState(path) : null;
      if (saved !== null) refuseChanges(dir, readSettings(join(dir, LOG)) ?? {}, settings);
      removeTemporary(dir);
      const records = saved === null ? [] : recordsUntil(join(dir, LOG), saved);
      const lines = [{ type: "settings", ...settings, ...about }, ...records];
      // What a killed run wrote behind its state will be written again, and its last line may be half a one.
      writeFileSync(join(dir, LOG), lines.map((line) => `${JSON.stringify(line)}\n`).join(""), { mode: 0o644 });
      return new TrainingFolder(dir, saved, records, lock);
    } catch (error) {
      lock[Symbol.dispose]();
      throw error;
    }
  }

  get checkpoint(): string {
    return join(this.dir, CHECKPOINT);
  }

  get best(): string {
    return join(this.dir, BEST);
  }

  get lastGood(): string {
    return join(this.dir, LAST_GOOD);
  }

  get teacher(): string {
    return join(this.dir, TEACHER);
  }

  get report(): string {
    return join(this.dir, REPORT);
  }

  add(record: LogRecord): void {
    this.records.push(record);
    this.log(record);
  }

  log(line: object): void {
    appendFileSync(join(this.dir, LOG), `${JSON.stringify(line)}\n`);
  }

  /** An empty folder for the result. */
  makeResult(): string {
    return emptyFolder(join(this.dir, RESULT));
  }

  /** Gives the result its name, log and report with it, and removes everything else. */
  publish(out: string): void {
    publishResult(this.dir, join(this.dir, RESULT), out, [LOG, REPORT]);
  }

  [Symbol.dispose](): void {
    this.#lock[Symbol.dispose]();
  }
}

/** @throws where `dir` holds what is no run's: at the end the folder is removed */
function refuseForeign(dir: string): void {
  const foreign = readdirSync(dir).find((name) => !NAMES.has(name) && !name.startsWith("."));
  if (foreign !== undefined)
    throw new Error(`Cannot write ${dir}: it holds ${foreign}, which is no run's; give another --out`);
}

/** Lines of steps and validations that the state knows of. */
function recordsUntil(log: string, { position }: SavedState): LogRecord[] {
  return readFileSync(log, "utf8")
    .split("\n")
    .flatMap((text) => {
      const line = parsed(text);
      if (!isObject(line) || typeof line.step !== "number") return [];
      const known = line.type === "eval" ? line.step <= (position.evaluated ?? -1) : line.type === "step";
      return known && line.step <= position.step ? [line as unknown as LogRecord] : [];
    });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
