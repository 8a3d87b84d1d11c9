/** Where a row's base comes from: a folder of models that the quality table left behind, or a new one. */
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { ROWS as QUALITY } from "../quality/matrix.mjs";
import { fingerprintOf, quantize } from "../quality/row.mjs";
import { MODEL } from "../smollm2.mjs";

/**
 * The folder of a base that was made before, or undefined.
 *
 * @param {import("./matrix.mjs").Base} base
 * @param {{ source: string, folders: readonly string[] }} settings
 */
export function findBase(base, { source, folders }) {
  if (!base.packed) return source;
  return folders.map((folder) => join(folder, base.name)).find((dir) => existsSync(join(dir, "config.json")));
}

/**
 * @param {import("./matrix.mjs").Base} base
 * @param {object} settings
 * @param {string} settings.source the full-precision model
 * @param {readonly string[]} settings.folders where models may lie, by the name of their row of the quality table; one that is
 *   missing is made in the last one
 * @param {string} settings.calibration text file
 * @param {number} settings.threads
 * @param {(line: string) => void} settings.onLine
 * @returns {Promise<{ dir: string, name: string, fingerprint: string }>} name: how command lines are to call it
 */
export async function openBase(base, settings) {
  const dir = findBase(base, settings) ?? (await makeBase(base, settings));
  return { dir, name: base.packed ? base.name : MODEL, fingerprint: await fingerprintOf(dir) };
}

async function makeBase(base, { source, folders, calibration, threads, onLine }) {
  const work = folders.at(-1);
  const out = join(work, base.name);
  mkdirSync(work, { recursive: true });
  const row = QUALITY.find(({ name }) => name === base.name);
  await quantize(row, out, { source, work, calibration, threads, resume: true, onLine });
  return out;
}
