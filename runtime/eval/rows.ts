/** Data sets as files of JSON objects: one on each line (JSONL), or all in one array. Every complaint names file and line. */
import { statSync } from "node:fs";
import { isObject, type JsonObject, kindOf } from "../formats/json.ts";
import { firstCharacters, readLines, readText } from "./text_file.ts";

/** Bytes of an array, which is held as a whole. */
const LARGEST_ARRAY = 256 * 2 ** 20;

export interface DataRow {
  readonly fields: JsonObject;
  /** FILE:LINE, where the row begins. */
  readonly where: string;
}

/** A row that is no JSON object. */
export interface BadRow {
  /** FILE:LINE, where it begins. */
  readonly where: string;
  /** Names it, with what was received and expected. */
  readonly error: Error;
}

/**
 * @param limit how many rows at most; rows after them are not looked at
 * @throws Error naming file and line of what is not an object, or the file when it has no rows
 */
export function readRows(path: string, limit = Number.POSITIVE_INFINITY): DataRow[] {
  const rows: DataRow[] = [];
  for (const row of scanRows(path)) {
    if (rows.length >= limit) break;
    if ("error" in row) throw row.error;
    rows.push(row);
  }
  if (rows.length === 0) throw new Error(`Cannot use ${path}: received no rows, expected JSON objects`);
  return rows;
}

/**
 * Yields every row of a file, good or bad. Lines are read one by one, so that a file of them may have any size; an array is held.
 *
 * @throws Error naming the file when it cannot be read, or is an array that does not end as one
 */
export function* scanRows(path: string): Generator<DataRow | BadRow, void, void> {
  yield* firstCharacters(path, 1) === "[" ? arrayRows(path) : lineRows(path);
}

function* lineRows(path: string): Generator<DataRow | BadRow, void, void> {
  for (const { text, number } of readLines(path)) {
    const where = `${path}:${number}`;
    if (text === null) yield { where, error: new Error(`Cannot read ${where}: it is not UTF-8 text`) };
    else if (text.trim() !== "") yield parseRow(text, where);
  }
}

function* arrayRows(path: string): Generator<DataRow | BadRow, void, void> {
  const { size } = statSync(path);
  if (size > LARGEST_ARRAY) {
    throw new Error(
      `Cannot read ${path}: received an array of ${size} bytes, expected at most ${LARGEST_ARRAY}, or one object on each line`,
    );
  }
  for (const { text, line } of arrayItems(readText(path), path)) yield parseRow(text, `${path}:${line}`);
}

interface ArrayItem {
  readonly text: string;
  /** On which it begins, from 1. */
  readonly line: number;
}

/**
 * Cuts an array at the commas between its items, without understanding them.
 * @throws Error where the array does not end, or something follows it
 */
function* arrayItems(text: string, path: string): Generator<ArrayItem, void, void> {
  const first = text.indexOf("[");
  let line = text.slice(0, first).split("\n").length;
  let depth = 0;
  /** Place and line where the current item begins; -1 before it does. */
  let start = -1;
  let startLine = line;
  let items = 0;
  for (let i = first; i < text.length; i++) {
    const char = text[i]!;
    if (char === "\n") line++;
    if (char === " " || char === "\n" || char === "\r" || char === "\t") continue;
    if (depth === 0 && i > first) throw new Error(`Cannot read ${path}:${line}: received text after the array's end`);
    if (depth === 1 && (char === "," || char === "]")) {
      // An empty array has no items; before a comma and after one there has to be something.
      if (start >= 0) yield { text: text.slice(start, i), line: startLine };
      else if (char === "," || items > 0) yield { text: "", line };
      start = -1;
      items++;
    } else if (depth === 1 && start < 0) {
      start = i;
      startLine = line;
    }
    if (char === "[" || char === "{") depth++;
    else if (char === "]" || char === "}") depth--;
    else if (char === '"') {
      for (i++; i < text.length && text[i] !== '"'; i++) {
        if (text[i] === "\\") i++;
        else if (text[i] === "\n") line++;
      }
    }
  }
  if (depth > 0) {
    throw new Error(`Cannot read ${path}: the array has no end; its last item begins on line ${startLine}`);
  }
}

function parseRow(text: string, where: string): DataRow | BadRow {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { where, error: new Error(`Cannot read ${where}: ${error instanceof Error ? error.message : error}`) };
  }
  if (isObject(value)) return { where, fields: value };
  return { where, error: new Error(`Cannot use ${where}: received ${kindOf(value)}, expected a JSON object`) };
}

/** Says what is wrong with a field of a row. */
export function badField({ where, fields }: DataRow, name: string, expected: string): never {
  const value = fields[name];
  const received = value === undefined ? "nothing" : JSON.stringify(value).slice(0, 80);
  throw new Error(`Cannot use ${where}: ${JSON.stringify(name)} received ${received}, expected ${expected}`);
}

/** A text field that must be there. */
export function textField(row: DataRow, name: string): string {
  const value = row.fields[name];
  return typeof value === "string" && value !== "" ? value : badField(row, name, "a text");
}
