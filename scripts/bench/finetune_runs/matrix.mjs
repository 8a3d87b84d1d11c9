/**
 * Every row of the table of real runs: a base and a task it is finetuned on. All bases get the same examples in the same order, the
 * same steps and the same rates; the LoRA has rank 64 and scale alpha / rank = 16 / 64 everywhere, and begins as the base's
 * calibrated one or, where the base has none, at zero.
 *
 * @typedef {object} Base
 * @property {string} name of the row of the quality table that makes it; fp16: the full-precision model itself
 * @property {string} label how the tables call it
 * @property {boolean} packed
 *
 * @typedef {object} Perplexity
 * @property {"perplexity"} kind over the quality table's windows of WikiText-2's test.txt
 *
 * @typedef {object} Accuracy
 * @property {"accuracy"} kind of greedy answers
 * @property {string} task of `apiq eval tasks`
 * @property {number} questions the first ones of the test rows
 * @property {number} maxTokens longest answer
 *
 * @typedef {object} Task
 * @property {string} name and recipe of `apiq finetune`
 * @property {string} about what it is trained and tested on, in a sentence
 * @property {readonly string[]} flags what differs from the recipe
 * @property {Perplexity | Accuracy} evaluation before and after
 * @property {{ training: number, validation: number }} tokens that go through the model, about
 *
 * @typedef {{ name: string, base: Base, task: Task }} Row
 */
import { ROWS as QUALITY } from "../quality/matrix.mjs";

/** Rows of the quality table, by name. */
const BASE_NAMES = [
  "fp16",
  "apiq-bw-2bit-g64-seed0",
  "apiq-lw-2bit-g64",
  "loftq-2bit-g64",
  "nf2-2bit-g64",
  "rtn-2bit-g64",
];

/** @type {readonly Base[]} */
export const BASES = BASE_NAMES.map((name) => {
  const { label, method } = QUALITY.find((row) => row.name === name);
  return { name, label, packed: method !== null };
});

/**
 * A run has some dozens of steps where the recipes have thousands: they are taken at a higher rate than the recipes' 3e-4. Nothing
 * is computed twice in the backward pass, which gives the same result in less time and more memory.
 */
const COMMON = ["--lr", "1e-3", "--no-recompute", "--seed", "0"];
const HELD_OUT = 48;

/** @type {readonly Task[]} */
export const TASKS = [
  {
    name: "wikitext",
    about: "24 steps of 2 blocks of 1024 tokens of WikiText-2's valid.txt",
    flags: ["--batch-size", "2", "--max-steps", "24", ...COMMON],
    evaluation: { kind: "perplexity" },
    tokens: { training: 49152, validation: 0 },
  },
  {
    name: "arithmetic",
    about: "40 steps of 8 worked answers of LLM-Adapters' arithmetic training set",
    flags: ["--batch-size", "8", "--max-steps", "40", "--val", String(HELD_OUT), ...COMMON],
    evaluation: { kind: "accuracy", task: "arithmetic", questions: 249, maxTokens: 96 },
    tokens: { training: 50000, validation: 15000 },
  },
  {
    name: "gsm8k",
    about: "32 steps of 8 rows of GSM8K's training set",
    flags: ["--batch-size", "8", "--max-steps", "32", "--val", String(HELD_OUT), ...COMMON],
    evaluation: { kind: "accuracy", task: "gsm8k", questions: 160, maxTokens: 160 },
    tokens: { training: 48000, validation: 18000 },
  },
];

/** @type {readonly Row[]} */
export const ROWS = TASKS.flatMap((task) => BASES.map((base) => ({ name: `${task.name}-${base.name}`, base, task })));
