/** Files and folders that appear under their name only when they are whole. */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import process from "node:process";

export type Write = (chunk: Uint8Array) => void;

/** Runs `body` with a writer into a temporary file beside `path`, syncs it and renames it; on a throw nothing is left. */
export async function writeFileAtomically(path: string, body: (write: Write) => void | Promise<void>): Promise<void> {
  const temporary = temporaryName(path);
  const file = openSync(temporary, "w");
  let open = true;
  try {
    await body((chunk) => {
      for (let done = 0; done < chunk.length; ) done += writeSync(file, chunk, done, chunk.length - done);
    });
    fsyncSync(file);
    closeSync(file);
    open = false;
    renameSync(temporary, path);
  } catch (error) {
    if (open) closeSync(file);
    rmSync(temporary, { force: true });
    throw error;
  }
}

export async function writeText(path: string, text: string): Promise<void> {
  await writeFileAtomically(path, (write) => write(new TextEncoder().encode(text)));
}

export async function writeJson(path: string, value: unknown): Promise<void> {
  await writeText(path, `${JSON.stringify(value, null, 2)}\n`);
}

/**
 * Runs `body` with a temporary folder beside `dir`, which then takes the name `dir`; on a throw nothing is left.
 *
 * @param replace allows a `dir` that exists, if it is empty or a model's folder: anything else is never deleted
 */
export async function makeFolderAtomically<T>(
  dir: string,
  replace: boolean,
  body: (temporary: string) => Promise<T>,
): Promise<T> {
  const target = resolve(dir);
  checkReplaceable(dir, replace);
  try {
    mkdirSync(dirname(target), { recursive: true });
  } catch (error) {
    throw new Error(
      `Cannot write ${dir}: its folder cannot be made (${error instanceof Error ? error.message : error})`,
    );
  }
  const temporary = temporaryName(target);
  mkdirSync(temporary);
  try {
    const result = await body(temporary);
    const old = `${temporary}.old`;
    if (existsSync(target)) renameSync(target, old);
    renameSync(temporary, target);
    rmSync(old, { recursive: true, force: true });
    return result;
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    throw error;
  }
}

/** @throws where `dir` exists and `replace` does not allow to delete it */
export function checkReplaceable(dir: string, replace: boolean): void {
  const target = resolve(dir);
  if (!existsSync(target)) return;
  if (!replace) throw new Error(`Cannot write ${dir}: it exists; --force replaces it`);
  const replaceable = statSync(target).isDirectory() && isModelOrEmpty(readdirSync(target));
  if (!replaceable) throw new Error(`Cannot replace ${dir}: it is neither empty nor a model's folder (no config.json)`);
}

function isModelOrEmpty(names: readonly string[]): boolean {
  return names.length === 0 || names.includes("config.json");
}

/** Hidden and in the same folder, so that the rename stays inside one file system. */
function temporaryName(path: string): string {
  return join(dirname(path), `.${basename(path)}.tmp-${process.pid}`);
}
