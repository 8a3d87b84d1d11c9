/** What the commands have in common that make the rows of a table, each kept as a file RESULTS/NAME.json. */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { CommandError } from "./process.mjs";

/** The folder of data beside the repository. */
const SHARED = join(import.meta.dirname, "..", "..", "..", "shared");

/** A mistake on the command line. */
export class UsageError extends Error {}

/** @param {string | undefined} text of --flag */
export function wholeNumber(text, flag) {
  if (text === undefined) return undefined;
  if (!/^\d{1,6}$/.test(text)) throw new UsageError(`Cannot read --${flag}: received ${text}, expected a number`);
  return Number(text);
}

/**
 * The command line: the flags that all tables have, a table's own, and numbers that change the budget of all rows, which may only
 * be given together with --results.
 *
 * @param {object} table
 * @param {string} table.folder in which it works, in the system's folder for temporary files
 * @param {string} table.results where its results go without --results
 * @param {import("node:util").ParseArgsOptionsConfig} table.flags
 * @param {readonly string[]} table.budget names of the numbers
 */
export function parseRowFlags({ folder, results, flags, budget }) {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        only: { type: "string" },
        list: { type: "boolean", default: false },
        model: { type: "string" },
        shared: { type: "string", default: SHARED },
        work: { type: "string", default: join(tmpdir(), "apiq-bench", folder) },
        results: { type: "string" },
        threads: { type: "string", default: "0" },
        continue: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
        ...flags,
        ...Object.fromEntries(budget.map((name) => [name, { type: "string" }])),
      },
    }));
  } catch (error) {
    throw new UsageError(error.message);
  }
  if (budget.some((name) => values[name] !== undefined) && values.results === undefined) {
    throw new UsageError("Cannot put results of another budget beside the others: give --results DIR");
  }
  return {
    ...values,
    budget: Object.fromEntries(budget.map((name) => [name, wholeNumber(values[name], name)])),
    threads: wholeNumber(values.threads, "threads"),
    work: resolve(values.work),
    results: resolve(values.results ?? results),
  };
}

/**
 * @template {{ name: string }} R
 * @param {readonly R[]} rows
 * @param {string | undefined} only names with commas between; undefined: all rows
 * @returns {readonly R[]} in the order of `only`
 */
export function chooseRows(rows, only) {
  if (only === undefined) return rows;
  return only.split(",").map((name) => {
    const row = rows.find((row) => row.name === name);
    if (row === undefined) throw new UsageError(`Cannot find row ${name}: --list prints all`);
    return row;
  });
}

const resultPath = (results, { name }) => join(results, `${name}.json`);

/** Whether a row has been run. */
export const isDone = (results, row) => existsSync(resultPath(results, row));

/** All results of a folder, by name; none where it does not exist. */
export function readResults(results) {
  return (existsSync(results) ? readdirSync(results) : [])
    .filter((name) => name.endsWith(".json"))
    .sort()
    .map((name) => JSON.parse(readFileSync(join(results, name), "utf8")));
}

function show(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text.slice(0, 120)}`);
}

/**
 * Runs one row after the other and keeps their results. A row whose command fails is named, and the next one runs.
 *
 * @template {{ name: string }} R
 * @param {readonly R[]} rows
 * @param {object} how
 * @param {string} how.results folder
 * @param {boolean} how.again whether rows run that have a result when their turn comes
 * @param {(row: R, onLine: (line: string) => void) => Promise<object>} how.run
 * @param {(result: object) => string} how.summary what is printed of a result
 * @returns {Promise<number>} how many failed
 */
export async function runRows(rows, { results, again, run, summary }) {
  mkdirSync(results, { recursive: true });
  let failed = 0;
  for (const row of rows) {
    const path = resultPath(results, row);
    if (!again && existsSync(path)) continue;
    try {
      const result = await run(row, (line) => show(`${row.name}: ${line}`));
      writeFileSync(`${path}.partial`, `${JSON.stringify(result, null, 2)}\n`);
      renameSync(`${path}.partial`, path);
      show("");
      console.log(`${row.name}: ${summary(result)}`);
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      show("");
      console.log(`${row.name}: ${error.message}`);
      failed++;
    }
  }
  return failed;
}

/**
 * Ends the process with what `main` came to: 1 after failed commands, 2 after a mistake on the command line.
 *
 * @param {string} command how it is called
 * @param {() => Promise<void>} main
 */
export async function runMain(command, main) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof UsageError || error instanceof CommandError)) throw error;
    console.error(error instanceof UsageError ? `${error.message}\nTry ${command} --help` : error.message);
    process.exitCode = error instanceof UsageError ? 2 : 1;
  }
}
