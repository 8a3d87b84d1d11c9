/**
 * Makes the rows of the table of real runs: each one a base that is evaluated, finetuned and evaluated again, kept as
 * results/NAME.json. Rows whose result is there are not run again.
 */
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { perplexity } from "../markdown.mjs";
import { WINDOWS } from "../quality/row.mjs";
import { chooseRows, isDone, parseRowFlags, runMain, runRows } from "../rows.mjs";
import { MODEL, prepareModel } from "../smollm2.mjs";
import { findBase } from "./bases.mjs";
import { minutesOf } from "./estimate.mjs";
import { ROWS } from "./matrix.mjs";
import { runRow } from "./row.mjs";

const RESULTS = join(import.meta.dirname, "results");
const QUALITY_RESULTS = join(import.meta.dirname, "..", "quality", "results");

const HELP = `Usage: node scripts/bench/finetune_runs/run.mjs [options]

Finetunes ${MODEL} in 2 bits, by the methods and on the tasks of matrix.mjs, and measures perplexity and accuracy before
and after. Rows whose result exists are skipped, so the same command continues.

  --only NAMES       these rows, with commas between; run again even where their result exists
  --list             print the rows, about how many minutes of a core each takes, and whether they have been run
  --bases DIRS       folders of models, with commas between, as scripts/bench/quality/run.mjs --keep-models leaves them in
                     its --work; a base that is in none of them is quantized into --work
  --model DIR        the full-precision model (default: made from models/${MODEL} of the shared folder)
  --shared DIR       the folder of data beside the repository (default: ../shared)
  --work DIR         where adapters are made (default: in the system's folder for temporary files)
  --results DIR      where results go (default: beside this script)
  --threads N        (default: all cores)
  --continue         go on with a row that was interrupted, instead of beginning it again
  --keep-adapters    leave the adapters in --work
  --help             show this text

For trying things out, with --results:

  --windows N        of the perplexity (default: ${WINDOWS})
  --questions N      of the accuracy
  --steps N          of the training`;

function parseCommandLine() {
  const options = parseRowFlags({
    ...{ folder: "finetune-runs", results: RESULTS },
    flags: { bases: { type: "string" }, "keep-adapters": { type: "boolean", default: false } },
    budget: ["windows", "questions", "steps"],
  });
  const given = options.bases?.split(",").map((folder) => resolve(folder)) ?? [];
  return { ...options, folders: [...given, join(options.work, "bases")] };
}

/** The row with the budget of the command line. */
function withBudget({ task, ...row }, { questions, steps }) {
  const { flags, evaluation } = task;
  const isLimited = questions !== undefined && evaluation.kind === "accuracy";
  return {
    ...row,
    task: {
      ...task,
      flags: steps === undefined ? flags : flags.with(flags.indexOf("--max-steps") + 1, String(steps)),
      evaluation: isLimited ? { ...evaluation, questions } : evaluation,
    },
  };
}

function list(rows, { results, folders }) {
  let total = 0;
  for (const row of rows) {
    const minutes = minutesOf(row);
    const done = isDone(results, row);
    if (!done) total += minutes;
    const base = findBase(row.base, { source: MODEL, folders }) === undefined ? "  its base is quantized first" : "";
    console.log(`${done ? "done" : "    "}  ${minutes.toFixed(0).padStart(3)} min  ${row.name}${done ? "" : base}`);
  }
  console.log(`about ${(total / 60).toFixed(1)} hours of one core are left`);
}

function summary({ before, after, training: { tokensPerSecond, seconds } }) {
  const shown = ({ ppl, accuracy }) =>
    ppl === undefined ? `${(100 * accuracy).toFixed(1)} %` : `perplexity ${perplexity(ppl)}`;
  const speed = `${tokensPerSecond.toFixed(0)} tokens/s, ${seconds.toFixed(0)} s`;
  return `${shown(before)} -> ${shown(after)}, trained with ${speed}`;
}

async function main() {
  const options = parseCommandLine();
  if (options.help) return console.log(HELP);
  const rows = chooseRows(ROWS, options.only);
  if (options.list) return list(rows, options);
  const shared = resolve(options.shared);
  const settings = {
    source: options.model === undefined ? prepareModel(shared) : resolve(options.model),
    ...{ folders: options.folders, data: join(shared, "data"), work: options.work, quality: QUALITY_RESULTS },
    ...{ windows: options.budget.windows ?? WINDOWS, threads: options.threads },
    ...{ resume: options.continue, keep: options["keep-adapters"] },
  };
  mkdirSync(settings.work, { recursive: true });
  const failed = await runRows(rows, {
    ...{ results: options.results, again: options.only !== undefined, summary },
    run: (row, onLine) => runRow(withBudget(row, options.budget), { ...settings, onLine }),
  });
  if (failed > 0) process.exitCode = 1;
}

await runMain("node scripts/bench/finetune_runs/run.mjs", main);
