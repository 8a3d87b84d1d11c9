/**
 * Makes the rows of the quality table: each one a model quantized and evaluated, kept as results/NAME.json. Rows whose result is
 * there are not run again.
 */
import { mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { chooseRows, isDone, runMain, runRows, UsageError, wholeNumber } from "../rows.mjs";
import { MODEL, prepareModel, SHARED } from "../smollm2.mjs";
import { ROWS } from "./matrix.mjs";
import { runRow, WINDOWS } from "./row.mjs";

const RESULTS = join(import.meta.dirname, "results");

const HELP = `Usage: node scripts/bench/quality/run.mjs [options]

Quantizes ${MODEL} by every method of matrix.mjs and measures perplexity, time, memory and size. Rows whose result
exists are skipped, so the same command continues.

  --only NAMES       these rows, with commas between; run again even where their result exists
  --list             print the rows and whether they have been run
  --model DIR        the full-precision model (default: made from models/${MODEL} of the shared folder)
  --shared DIR       the folder of data beside the repository (default: ../shared)
  --work DIR         where models are made (default: in the system's folder for temporary files)
  --results DIR      where results go (default: beside this script)
  --threads N        (default: all cores)
  --continue         go on with a row that was interrupted, instead of beginning it again
  --keep-models      leave the models in --work
  --help             show this text

For trying things out, with --results: another budget for all rows.

  --samples N, --length N, --epochs N    of calibration
  --limit N                              windows of the evaluation (default: ${WINDOWS})`;

function parseCommandLine() {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        only: { type: "string" },
        list: { type: "boolean", default: false },
        model: { type: "string" },
        shared: { type: "string", default: SHARED },
        work: { type: "string", default: join(tmpdir(), "apiq-bench", "quality") },
        results: { type: "string" },
        threads: { type: "string", default: "0" },
        continue: { type: "boolean", default: false },
        "keep-models": { type: "boolean", default: false },
        samples: { type: "string" },
        length: { type: "string" },
        epochs: { type: "string" },
        limit: { type: "string" },
        help: { type: "boolean", default: false },
      },
    }));
  } catch (error) {
    throw new UsageError(error.message);
  }
  const number = (flag) => wholeNumber(values[flag], flag);
  const budget = { samples: number("samples"), length: number("length"), epochs: number("epochs") };
  const limit = number("limit");
  const changed = [...Object.values(budget), limit].some((value) => value !== undefined);
  if (changed && values.results === undefined) {
    throw new UsageError("Cannot put results of another budget beside the others: give --results DIR");
  }
  return {
    ...values,
    budget,
    limit: limit ?? WINDOWS,
    threads: number("threads"),
    results: resolve(values.results ?? RESULTS),
  };
}

/** The row with the budget of the command line, where the method has such a thing. */
function withBudget(row, { samples, length, epochs }) {
  return {
    ...row,
    samples: samples ?? row.samples,
    length: length ?? row.length,
    epochs: row.epochs === null ? null : (epochs ?? row.epochs),
  };
}

function summary({ ppl, bitsPerWeight, seconds }) {
  const time = seconds === null ? "" : `, ${seconds.toFixed(0)} s`;
  return `perplexity ${ppl.toFixed(3)}, ${bitsPerWeight.toFixed(2)} bits per weight${time}`;
}

async function main() {
  const options = parseCommandLine();
  if (options.help) return console.log(HELP);
  const rows = chooseRows(ROWS, options.only);
  if (options.list) {
    for (const row of rows) console.log(`${isDone(options.results, row) ? "done" : "    "}  ${row.name}`);
    return;
  }
  const shared = resolve(options.shared);
  const settings = {
    source: options.model === undefined ? prepareModel(shared) : resolve(options.model),
    ...{ work: resolve(options.work), limit: options.limit, threads: options.threads },
    calibration: join(shared, "data", "wikitext-2", "valid.txt"),
    test: join(shared, "data", "wikitext-2", "test.txt"),
    ...{ resume: options.continue, keep: options["keep-models"] },
  };
  mkdirSync(settings.work, { recursive: true });
  const failed = await runRows(rows, {
    ...{ results: options.results, again: options.only !== undefined, summary },
    run: (row, onLine) => runRow(withBudget(row, options.budget), { ...settings, onLine }),
  });
  if (failed > 0) process.exitCode = 1;
}

await runMain("node scripts/bench/quality/run.mjs", main);
