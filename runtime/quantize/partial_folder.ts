/**
 * `OUT.partial`: where a run keeps what is finished until it becomes OUT. Blocks appear whole or not at all, so the folder can be
 * continued from however the run ended.
 *
 *   quantize.jsonl          settings, then a line for every finished block
 *   report.html             the same to look at
 *   block-NNN.safetensors   finished blocks (block_file.ts)
 *   begun/, finish../       the model while a method works on it as a whole (model_phase.ts)
 *   model/                  the model while it is put together
 *   lock                    locked by the process that writes here; holds its id
 */
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, resolve, sep } from "node:path";
import process from "node:process";
import { FileLock } from "../../ffi/mod.ts";
import { FormatError } from "../formats/failure.ts";
import { isObject, type JsonObject } from "../formats/json.ts";
import { type BlockFile, type BlockRecord, blockPath, openBlock } from "./block_file.ts";

export const LOG = "quantize.jsonl";
export const REPORT = "report.html";
export const LOCK = "lock";

/** Where what is finished is kept until `out` can be made. */
export function partialPath(out: string): string {
  return `${out.replace(/\/+$/, "")}.partial`;
}

export class PartialFolder implements Disposable {
  readonly dir: string;
  readonly #finished: BlockFile[];
  readonly #lock: FileLock;

  private constructor(dir: string, finished: BlockFile[], lock: FileLock) {
    this.dir = dir;
    this.#finished = finished;
    this.#lock = lock;
  }

  /**
   * Opens or makes the folder of a run, for this process alone until it is disposed.
   *
   * @param settings everything that decides the result, flat; compared with what the folder was begun with
   * @param about what is only told: the first line of the log holds it too
   * @throws where OUT exists or cannot be made, another process writes the folder, or it belongs to a run with other settings
   */
  static open(out: string, settings: JsonObject, about: JsonObject, blocks: number): PartialFolder {
    refuseExisting(out);
    const dir = partialPath(out);
    makeFolder(dir, out);
    refuseForeign(dir);
    const lock = takeLock(dir);
    try {
      // The run that held the lock may have just made it.
      refuseExisting(out);
      checkSettings(dir, settings);
      removeTemporary(dir);
      removeUnfinishedModel(dir);
      const finished = finishedBlocks(dir, blocks);
      const lines = [{ type: "settings", ...settings, ...about }, ...finished.map(({ record }) => blockLine(record))];
      // What a killed run left of its log may end in half a line: the blocks know better.
      writeFileSync(join(dir, LOG), lines.map((line) => `${JSON.stringify(line)}\n`).join(""), { mode: 0o644 });
      return new PartialFolder(dir, finished, lock);
    } catch (error) {
      lock[Symbol.dispose]();
      throw error;
    }
  }

  /** Finished blocks from the first on. */
  get finished(): readonly BlockFile[] {
    return this.#finished;
  }

  /** Takes note of a block whose file was written. */
  add(layer: number): BlockFile {
    const file = openBlock(this.dir, layer);
    this.#finished.push(file);
    this.log(blockLine(file.record));
    return file;
  }

  log(line: JsonObject): void {
    appendFileSync(join(this.dir, LOG), `${JSON.stringify(line)}\n`);
  }

  /** Gives the finished model its name, log and report with it, and removes everything else. */
  publish(model: string, out: string): void {
    publishResult(this.dir, model, out, [LOG, REPORT]);
  }

  [Symbol.dispose](): void {
    this.#lock[Symbol.dispose]();
  }
}

/** Gives the folder `result` the name `out`, with `files` of the partial folder `dir` in it, and removes what else that holds. */
export function publishResult(dir: string, result: string, out: string, files: readonly string[]): void {
  for (const name of files) copyFileSync(join(dir, name), join(result, name));
  // An empty folder may be there: renaming replaces it.
  renameSync(result, out);
  rmSync(dir, { recursive: true, force: true });
}

/** Makes the folder anew. */
export function emptyFolder(path: string): string {
  rmSync(path, { recursive: true, force: true });
  mkdirSync(path);
  return path;
}

/** @throws where the result could not take the name `out`: all but an empty folder would be overwritten */
export function refuseExisting(out: string): void {
  if (out === "") throw new Error("Cannot write the result: --out is empty, expected a folder to make");
  const parent = statSync(dirname(resolve(out)), { throwIfNoEntry: false });
  if (parent === undefined) return;
  if (!parent.isDirectory()) throw new Error(`Cannot write ${out}: what is to hold it is no folder`);
  const stat = lstatSync(out, { throwIfNoEntry: false });
  if (stat === undefined) return;
  const refuse = (why: string) => new Error(`Cannot write ${out}: it ${why}`);
  if (stat.isSymbolicLink()) throw refuse("is a symbolic link; give the folder it stands for or another --out");
  if (!stat.isDirectory() || readdirSync(out).length > 0) {
    // A run that was killed while it cleaned up leaves both.
    const rest = existsSync(partialPath(out))
      ? `; ${partialPath(out)} is what is left of a run and can be removed`
      : "";
    throw refuse(`exists; remove it or give another --out${rest}`);
  }
  if (stat.dev !== parent.dev) {
    throw refuse("is where a file system is mounted; give a folder inside it");
  }
}

/** @throws where `out` is the folder of the model that is read, or inside it */
export function refuseInside(out: string, source: string): void {
  if (!existsSync(source)) return;
  let place = resolve(out);
  while (!existsSync(place)) place = dirname(place);
  const [inner, outer] = [realpathSync(place), realpathSync(source)];
  if (!`${inner}${sep}`.startsWith(`${outer}${sep}`)) return;
  const where =
    inner === outer && place === resolve(out) ? "is the model that is read" : `is inside the model ${source}`;
  throw new Error(`Cannot write ${out}: it ${where}; give another --out`);
}

export function makeFolder(dir: string, out: string): void {
  try {
    mkdirSync(dir, { recursive: true });
  } catch (error) {
    const reason = error instanceof Error ? error.message : error;
    throw new Error(`Cannot write ${out}: its folder cannot be made (${reason})`);
  }
}

/** @throws where another process writes `dir` */
export function takeLock(dir: string): FileLock {
  const path = join(dir, LOCK);
  const lock = FileLock.take(path);
  if (lock !== null) {
    writeFileSync(path, `${process.pid}\n`);
    return lock;
  }
  const holder = readFileSync(path, "utf8").trim();
  throw new Error(`Cannot write ${dir}: process ${holder} is writing it; wait for it, or give another --out`);
}

function blockLine(record: BlockRecord): JsonObject {
  return { type: "block", ...record };
}

/** @throws where `dir` holds files and none of a run */
function refuseForeign(dir: string): void {
  const known = readdirSync(dir).every((name) => name === LOCK) || existsSync(join(dir, LOG));
  if (!known) throw new Error(`Cannot write ${dir}: it is not empty and no run of apiq quantize began it (no ${LOG})`);
}

function checkSettings(dir: string, settings: JsonObject): void {
  // Nothing was finished: nothing is lost when it begins anew.
  if (!readdirSync(dir).some((name) => name.startsWith("block-"))) return;
  refuseChanges(dir, readSettings(join(dir, LOG)) ?? {}, settings);
}

/** @throws naming what differs between the settings a run in `dir` was begun with and those it is to continue with */
export function refuseChanges(dir: string, begun: JsonObject, asked: JsonObject): void {
  const changes = differences(begun, asked);
  if (changes.length === 0) return;
  throw new Error(
    `Cannot continue ${dir}: it was begun with ${changes.join("; ")}. Give the same settings, or remove the folder to begin anew`,
  );
}

/** The settings that a log begins with; null where it is damaged. */
export function readSettings(log: string): JsonObject | null {
  const [first = ""] = readFileSync(log, "utf8").split("\n");
  try {
    const line: unknown = JSON.parse(first);
    return isObject(line) && line.type === "settings" ? line : null;
  } catch {
    return null;
  }
}

/** "bits 2 instead of 3", for each setting that differs. */
function differences(begun: JsonObject, asked: JsonObject): string[] {
  const show = (value: unknown): string => (value === undefined ? "nothing" : JSON.stringify(value));
  return Object.keys(asked)
    .filter((key) => JSON.stringify(begun[key]) !== JSON.stringify(asked[key]))
    .map((key) => `${key} ${show(begun[key])} instead of ${show(asked[key])}`);
}

/** Files and folders that a killed run had not finished writing. */
export function removeTemporary(dir: string): void {
  for (const name of readdirSync(dir)) {
    if (name.startsWith(".") && name.includes(".tmp-")) rmSync(join(dir, name), { recursive: true, force: true });
  }
}

function removeUnfinishedModel(dir: string): void {
  rmSync(join(dir, "model"), { recursive: true, force: true });
}

/** Blocks 0 .. n whose files are whole. One that is not, and what follows it, is made again. */
function finishedBlocks(dir: string, blocks: number): BlockFile[] {
  const finished: BlockFile[] = [];
  try {
    while (finished.length < blocks && existsSync(blockPath(dir, finished.length))) {
      finished.push(openBlock(dir, finished.length));
    }
  } catch (error) {
    // A SyntaxError is of a record that is no JSON.
    if (!(error instanceof FormatError || error instanceof SyntaxError)) throw error;
  }
  return finished;
}
