/**
 * `bun arithmetic_data.ts FOLDER OUT`: makes a training and a test set of LLM-Adapters' arithmetic data that have no question in
 * common, and prints as JSON how many rows they have.
 *
 *   OUT/arithmetic.train.json   rows of train.json whose worked answer ends in the right number, each question once
 *   OUT/arithmetic.test.json    the questions of AddSub, MultiArith and SingleEq that train.json does not have, each once
 *
 * Four of five questions of the original test sets are in train.json. So are four of five of GSM8K's test questions: what is
 * trained on it says nothing about GSM8K.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { type DataRow, readRows, textField } from "../../../runtime/eval/rows.ts";
import { TASKS } from "../../../runtime/eval/tasks.ts";
import { writeText } from "../../../runtime/formats/atomic.ts";

const TEST_SETS = ["addsub", "multiarith", "singleeq"];

const [folder, out] = process.argv.slice(2);
if (folder === undefined || out === undefined) throw new Error("expected arithmetic_data.ts FOLDER OUT");

/** Its words and numbers: questions that differ in marks and spaces only are one. */
const questionOf = (row: DataRow): string =>
  textField(row, "instruction")
    .toLowerCase()
    .match(/[a-z0-9]+/g)
    ?.join(" ") ?? "";

const isRight = (row: DataRow): boolean => TASKS.arithmetic.item(row).judge(String(row.fields.output)).correct;

/** The first row of every question that `known` does not have; `known` then has them all. */
function newQuestions(rows: readonly DataRow[], known: Set<string>): DataRow[] {
  return rows.filter((row) => known.size < known.add(questionOf(row)).size);
}

/** Whole at once: rows of the table may run beside each other. */
async function write(name: string, rows: readonly DataRow[]): Promise<void> {
  const fields = rows.map((row) => row.fields);
  await writeText(join(out!, name), `${JSON.stringify(fields, null, 1)}\n`);
}

const all = readRows(join(folder, "train.json"));
const tests = TEST_SETS.flatMap((name) => readRows(join(folder, `${name}.test.json`)));
const train = newQuestions(all.filter(isRight), new Set());
const test = newQuestions(tests, new Set(all.map(questionOf)));
mkdirSync(out, { recursive: true });
await write("arithmetic.train.json", train);
await write("arithmetic.test.json", test);
const counts = {
  trainingRows: train.length,
  ofTrainingRows: all.length,
  testRows: test.length,
  ofTestRows: tests.length,
};
console.log(JSON.stringify(counts));
