/** The full-precision model that the tables of results begin from. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { CommandError } from "./process.mjs";
import { CACHE_DIR } from "./programs.mjs";
import { UsageError } from "./rows.mjs";

export const MODEL = "SmolLM2-135M-Instruct";

/**
 * The model as a Hugging Face folder, made from the shared folder's at the first call.
 *
 * @param {string} shared
 * @returns {string} the folder
 */
export function prepareModel(shared) {
  const dir = join(CACHE_DIR, MODEL);
  if (existsSync(join(dir, "config.json"))) return dir;
  const tool = join(shared, "tools", "gguf_to_hf.mjs");
  if (!existsSync(tool)) throw new UsageError(`Cannot find ${tool}: give --model DIR or --shared DIR`);
  mkdirSync(CACHE_DIR, { recursive: true });
  const partial = `${dir}.partial-${process.pid}`;
  const { status } = spawnSync(process.execPath, [tool, join(shared, "models", MODEL), partial], { stdio: "inherit" });
  if (status !== 0) throw new CommandError(`Cannot make the full-precision model: ${tool} failed`);
  renameSync(partial, dir);
  return dir;
}
