/** From results of single rows to the Markdown that stands in the README. */
import { machinesOf, markdownTable, perplexity, same } from "../markdown.mjs";
import { median } from "../report.mjs";
import { BASES, TASKS } from "./matrix.mjs";

const HEADER = [
  "base",
  "wikitext perplexity",
  "arithmetic, %",
  "answers' perplexity",
  "gsm8k, %",
  "answers' perplexity",
  "tokens/s",
  "peak memory",
];

/** 12.5 ± 2.1: the share and its standard error in percent; nothing is said of the error of none or all. */
export function accuracy({ correct, rows }) {
  const share = correct / rows;
  const error = Math.sqrt((share * (1 - share)) / rows);
  return `${(100 * share).toFixed(1)}${error > 0 ? ` ± ${(100 * error).toFixed(1)}` : ""}`;
}

const change = (before, after) => `${before} → ${after}`;

/** Of the answers that were held out from training: exp of the mean loss of their tokens. */
function answersPerplexity(validation) {
  return change(perplexity(Math.exp(validation.before)), perplexity(Math.exp(validation.after)));
}

/** Cells of a task; empty where the row has not been run. */
function taskCells({ name, evaluation }, result) {
  const isAccuracy = evaluation.kind === "accuracy";
  if (result === undefined) return isAccuracy ? ["", ""] : [""];
  if (result.task !== name) throw new Error(`Cannot show ${result.name}: its task is ${result.task}, expected ${name}`);
  const { before, after, training } = result;
  if (!isAccuracy) return [change(perplexity(before.ppl), perplexity(after.ppl))];
  return [change(accuracy(before), accuracy(after)), answersPerplexity(training.validation)];
}

function cellsOf(base, results) {
  const trainings = results.map(({ training }) => training);
  return [
    base.label,
    ...TASKS.flatMap((task) =>
      taskCells(
        task,
        results.find(({ task: name }) => name === task.name),
      ),
    ),
    median(trainings.map(({ tokensPerSecond }) => tokensPerSecond)).toFixed(0),
    `${(Math.max(...trainings.map(({ peakBytes }) => peakBytes)) / 1e9).toFixed(2)} GB`,
  ];
}

/** What a task trains on and is measured by, in a sentence; none where no result is of it. */
function describeTask({ name, about, evaluation }, results) {
  const own = results.filter(({ task }) => task === name);
  if (own.length === 0) return [];
  if (evaluation.kind === "perplexity") {
    const windows = same(own, "the number of windows", ({ after }) => after.windows);
    return [`${name}: ${about}; perplexity over the first ${windows} windows of 1024 tokens of test.txt.`];
  }
  const rows = same(own, "the number of questions", ({ after }) => after.rows);
  return [`${name}: ${about}; share of ${rows} questions answered rightly, with its standard error.`];
}

/**
 * @param {readonly object[]} results at least one
 * @returns {string} Markdown without the marks
 */
export function renderTable(results) {
  const lines = BASES.map((base) => ({ base, results: results.filter((result) => result.base === base.name) })).filter(
    ({ results }) => results.length > 0,
  );
  return [
    "SmolLM2-135M-Instruct in full precision and in 2 bits, a LoRA of rank 64 on every linear, before → after finetuning.",
    ...TASKS.flatMap((task) => describeTask(task, results)),
    machinesOf(results),
    "",
    ...markdownTable([HEADER, ...lines.map(({ base, results }) => cellsOf(base, results))]),
  ].join("\n");
}
