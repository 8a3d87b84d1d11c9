/** Which format a file and its rows are in. */
import type { DataRow } from "../../eval/rows.ts";
import { firstCharacters } from "../../eval/text_file.ts";
import type { DatasetFormat } from "./example.ts";

/** What tells a row's format: the first of these fields that it has. */
const SIGNS: readonly (readonly [DatasetFormat, string])[] = [
  ["chat", "messages"],
  ["instruction", "instruction"],
  ["gsm8k", "question"],
  ["text", "text"],
];

const EXPECTED: Readonly<Record<DatasetFormat, string>> = {
  chat: '{"messages": [{"role": "...", "content": "..."}, ...]}',
  instruction: '{"instruction": "...", "input": "...", "output": "..."}',
  gsm8k: '{"question": "...", "answer": "..."}',
  text: '{"text": "..."}',
};

/** @throws Error naming the row where it is of no format */
export function formatOf(row: DataRow): DatasetFormat {
  const found = SIGNS.find(([, field]) => field in row.fields);
  if (found === undefined) throw unexpected(row, Object.values(EXPECTED).join(" or "));
  return found[0];
}

/** Says that a row is not of its file's format. */
export function refuseRow(row: DataRow, format: DatasetFormat): never {
  throw unexpected(row, `${EXPECTED[format]} (${format}, the file's format)`);
}

function unexpected({ where, fields }: DataRow, expected: string): Error {
  const names = Object.keys(fields).join(", ").slice(0, 80);
  return new Error(`Cannot use ${where}: received an object with ${names || "no fields"}, expected ${expected}`);
}

/** Whether a file is one text rather than rows: its name does not say JSON, and it does not begin as rows do. */
export function isPlainText(file: string, format: DatasetFormat | "auto"): boolean {
  if (format !== "auto" && format !== "text") return false;
  if (/\.(json|jsonl|ndjson)$/i.test(file)) return false;
  return !/^(\[?\{|\[\])/.test(firstCharacters(file, 2));
}
