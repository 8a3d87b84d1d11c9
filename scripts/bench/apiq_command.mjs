/** Runs `scripts/apiq` for the tables of results, and says what it ran on. */
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { describeMachine } from "./machine.mjs";
import { runForJson } from "./process.mjs";
import { commandLine } from "./programs.mjs";

export const REPOSITORY = join(import.meta.dirname, "..", "..");
const APIQ = join("scripts", "apiq");
const BUN = join("node_modules", "bun", "bin", "bun.exe");

/**
 * `apiq` with `--json`: its answer, time and memory, as `runForJson` gives them.
 *
 * @param {readonly string[]} args
 * @param {(line: string) => void} onLine
 */
export const runApiq = (args, onLine) => runForJson(APIQ, [...args, "--json"], { cwd: REPOSITORY, onLine });

/**
 * A TypeScript file of the repository that prints JSON.
 *
 * @param {string} file
 * @param {readonly string[]} args
 */
export const runScript = (file, args = []) => runForJson(BUN, ["run", file, ...args], { cwd: REPOSITORY });

/**
 * A command of `apiq` as one would type it, with the places of this machine replaced by what they hold.
 *
 * @param {readonly string[]} args
 * @param {ReadonlyMap<string, string>} places
 */
export function shownCommand(args, places) {
  return commandLine(
    APIQ,
    [...args, "--json"].map((arg) => places.get(arg) ?? arg),
  );
}

/**
 * What an evaluation is of.
 *
 * @typedef {object} Subject
 * @property {string} model folder
 * @property {string} name how command lines are to call it
 * @property {string} [adapter] folder
 */

/** @param {Subject} subject */
export const subjectArgs = ({ model, adapter }) => [
  ...["--model", model],
  ...(adapter === undefined ? [] : ["--adapter", adapter]),
];

/** For `shownCommand`. @param {Subject} subject */
export const subjectPlaces = ({ model, name, adapter }) => [
  [model, name],
  ...(adapter === undefined ? [] : [[adapter, "adapter"]]),
];

/** The machine as every result names it. @param {number} threads 0: all */
export async function describeHost(threads) {
  const { answer: isa } = await runScript(join(import.meta.dirname, "isa.ts"));
  const { cpu, cores, features, memoryBytes, loadAverage } = describeMachine();
  return { cpu, cores, threads: threads || availableParallelism(), isa, features, memoryBytes, loadAverage };
}
