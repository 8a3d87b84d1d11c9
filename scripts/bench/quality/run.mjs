/**
 * Makes the rows of the quality table: each one a model quantized and evaluated, kept as results/NAME.json. Rows whose result is
 * there are not run again.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { ROWS } from "./matrix.mjs";
import { CommandError } from "./process.mjs";
import { runRow } from "./row.mjs";

const RESULTS = join(import.meta.dirname, "results");
const SHARED = join(import.meta.dirname, "..", "..", "..", "..", "shared");
const MODEL = join("models", "SmolLM2-135M-Instruct");
const LIMIT = 40;

const HELP = `Usage: node scripts/bench/quality/run.mjs [options]

Quantizes SmolLM2-135M-Instruct by every method of matrix.mjs and measures perplexity, time, memory and size. Rows whose result
exists are skipped, so the same command continues.

  --only NAMES       these rows, with commas between; run again even where their result exists
  --list             print the rows and whether they have been run
  --model DIR        the full-precision model (default: made from ${MODEL} of the shared folder)
  --shared DIR       the folder of data beside the repository (default: ../shared)
  --work DIR         where models are made (default: in the system's folder for temporary files)
  --results DIR      where results go (default: beside this script)
  --threads N        (default: all cores)
  --continue         go on with a row that was interrupted, instead of beginning it again
  --keep-models      leave the models in --work
  --help             show this text

For trying things out, with --results: another budget for all rows.

  --samples N, --length N, --epochs N    of calibration
  --limit N                              windows of the evaluation (default: ${LIMIT})`;

/** A mistake on the command line. */
class UsageError extends Error {}

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
  const number = (flag) => {
    const text = values[flag];
    if (text === undefined) return undefined;
    if (!/^\d{1,6}$/.test(text)) throw new UsageError(`Cannot read --${flag}: received ${text}, expected a number`);
    return Number(text);
  };
  const budget = { samples: number("samples"), length: number("length"), epochs: number("epochs") };
  const limit = number("limit");
  const changed = [...Object.values(budget), limit].some((value) => value !== undefined);
  if (changed && values.results === undefined) {
    throw new UsageError("Cannot put results of another budget beside the others: give --results DIR");
  }
  return {
    ...values,
    budget,
    limit: limit ?? LIMIT,
    threads: number("threads"),
    results: resolve(values.results ?? RESULTS),
  };
}

function chooseRows(only) {
  if (only === undefined) return ROWS;
  return only.split(",").map((name) => {
    const row = ROWS.find((row) => row.name === name);
    if (row === undefined) throw new UsageError(`Cannot find row ${name}: --list prints all`);
    return row;
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

/** The full-precision model as a Hugging Face folder. */
function prepareSource(shared) {
  const dir = join(tmpdir(), "apiq-bench", "SmolLM2-135M-Instruct");
  if (existsSync(join(dir, "config.json"))) return dir;
  const tool = join(shared, "tools", "gguf_to_hf.mjs");
  if (!existsSync(tool)) throw new UsageError(`Cannot find ${tool}: give --model DIR or --shared DIR`);
  mkdirSync(join(tmpdir(), "apiq-bench"), { recursive: true });
  const partial = `${dir}.partial-${process.pid}`;
  const { status } = spawnSync(process.execPath, [tool, join(shared, MODEL), partial], { stdio: "inherit" });
  if (status !== 0) throw new CommandError(`Cannot make the full-precision model: ${tool} failed`);
  renameSync(partial, dir);
  return dir;
}

const resultPath = (results, { name }) => join(results, `${name}.json`);

function show(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text.slice(0, 120)}`);
}

async function main() {
  const options = parseCommandLine();
  if (options.help) return console.log(HELP);
  const rows = chooseRows(options.only);
  if (options.list) {
    for (const row of rows)
      console.log(`${existsSync(resultPath(options.results, row)) ? "done" : "    "}  ${row.name}`);
    return;
  }
  const shared = resolve(options.shared);
  const source = options.model === undefined ? prepareSource(shared) : resolve(options.model);
  const settings = {
    ...{ source, work: resolve(options.work), limit: options.limit, threads: options.threads },
    calibration: join(shared, "data", "wikitext-2", "valid.txt"),
    test: join(shared, "data", "wikitext-2", "test.txt"),
    ...{ resume: options.continue, keep: options["keep-models"] },
  };
  mkdirSync(settings.work, { recursive: true });
  mkdirSync(options.results, { recursive: true });
  let failed = 0;
  for (const row of rows) {
    const path = resultPath(options.results, row);
    if (options.only === undefined && existsSync(path)) continue;
    try {
      const onLine = (line) => show(`${row.name}: ${line}`);
      const result = await runRow(withBudget(row, options.budget), { ...settings, onLine });
      writeFileSync(`${path}.partial`, `${JSON.stringify(result, null, 2)}\n`);
      renameSync(`${path}.partial`, path);
      show("");
      const time = result.seconds === null ? "" : `, ${result.seconds.toFixed(0)} s`;
      console.log(
        `${row.name}: perplexity ${result.ppl.toFixed(3)}, ${result.bitsPerWeight.toFixed(2)} bits per weight${time}`,
      );
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      show("");
      console.log(`${row.name}: ${error.message}`);
      failed++;
    }
  }
  if (failed > 0) process.exitCode = 1;
}

try {
  await main();
} catch (error) {
  if (!(error instanceof UsageError || error instanceof CommandError)) throw error;
  console.error(
    error instanceof UsageError ? `${error.message}\nTry node scripts/bench/quality/run.mjs --help` : error.message,
  );
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
