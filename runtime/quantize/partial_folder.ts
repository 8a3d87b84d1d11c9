/**
 * `OUT.partial`: where a run keeps what is finished until it becomes OUT. Blocks appear whole or not at all, so the folder can be
 * continued from however the run ended.
 *
 *   quantize.jsonl          settings, then a line for every finished block
 *   report.html             the same to look at
 *   block-NNN.safetensors   finished blocks (block_file.ts)
 *   model/                  the model while it is put together
 */
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { FormatError } from "../formats/failure.ts";
import { isObject, type JsonObject } from "../formats/json.ts";
import { type BlockFile, type BlockRecord, blockPath, openBlock } from "./block_file.ts";

export const LOG = "quantize.jsonl";
export const REPORT = "report.html";

export class PartialFolder {
  readonly dir: string;
  readonly #finished: BlockFile[];

  private constructor(dir: string, finished: BlockFile[]) {
    this.dir = dir;
    this.#finished = finished;
  }

  /**
   * Opens or makes the folder of a run.
   *
   * @param settings everything that decides the result, flat; compared with what the folder was begun with
   * @param about what is only told: the first line of the log holds it too
   * @throws where OUT exists, or the folder belongs to a run with other settings
   */
  static open(out: string, settings: JsonObject, about: JsonObject, blocks: number): PartialFolder {
    refuseExisting(out);
    const dir = `${out.replace(/\/+$/, "")}.partial`;
    mkdirSync(dir, { recursive: true });
    checkSettings(dir, settings);
    removeTemporary(dir);
    const finished = finishedBlocks(dir, blocks);
    const lines = [{ type: "settings", ...settings, ...about }, ...finished.map(({ record }) => blockLine(record))];
    // What a killed run left of its log may end in half a line: the blocks know better.
    writeFileSync(join(dir, LOG), lines.map((line) => `${JSON.stringify(line)}\n`).join(""), { mode: 0o644 });
    return new PartialFolder(dir, finished);
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
    for (const name of [LOG, REPORT]) copyFileSync(join(this.dir, name), join(model, name));
    // An empty folder may be there: renaming replaces it.
    renameSync(model, out);
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** @throws where `out` is anything but an empty folder */
export function refuseExisting(out: string): void {
  if (!existsSync(out) || (statSync(out).isDirectory() && readdirSync(out).length === 0)) return;
  throw new Error(`Cannot write ${out}: it exists; remove it or give another --out`);
}

function blockLine(record: BlockRecord): JsonObject {
  return { type: "block", ...record };
}

function checkSettings(dir: string, settings: JsonObject): void {
  const names = readdirSync(dir);
  if (!existsSync(join(dir, LOG))) {
    if (names.length === 0) return;
    throw new Error(`Cannot write ${dir}: it is not empty and no run of apiq quantize began it (no ${LOG})`);
  }
  // Nothing was finished: nothing is lost when it begins anew.
  if (!names.some((name) => name.startsWith("block-"))) return;
  const changes = differences(readSettings(join(dir, LOG)) ?? {}, settings);
  if (changes.length === 0) return;
  throw new Error(
    `Cannot continue ${dir}: it was begun with ${changes.join("; ")}. Give the same settings, or remove the folder to begin anew`,
  );
}

function readSettings(log: string): JsonObject | null {
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

/** Files that a killed run had not finished writing. */
function removeTemporary(dir: string): void {
  for (const name of readdirSync(dir)) {
    if (name.startsWith(".") && name.includes(".tmp-")) rmSync(join(dir, name), { force: true });
  }
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
    if (!(error instanceof FormatError)) throw error;
  }
  return finished;
}
