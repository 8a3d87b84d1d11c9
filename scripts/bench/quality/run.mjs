/**
 * Makes the rows of the quality table: each one a model quantized and evaluated, kept as results/NAME.json. Rows whose result is
 * there are not run again.
 */
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { chooseRows, isDone, parseRowFlags, runMain, runRows } from "../rows.mjs";
import { MODEL, prepareModel } from "../smollm2.mjs";
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
  return parseRowFlags({
    ...{ folder: "quality", results: RESULTS },
    flags: { "keep-models": { type: "boolean", default: false } },
    budget: ["samples", "length", "epochs", "limit"],
  });
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
    ...{ work: options.work, limit: options.budget.limit ?? WINDOWS, threads: options.threads },
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
