/** Data sets as files of JSON objects: one on each line (JSONL), or all in one array. Every complaint names file and line. */
import { isObject, type JsonObject, kindOf } from "../formats/json.ts";
import { readText } from "./text_file.ts";

export interface DataRow {
  readonly fields: JsonObject;
  /** FILE:LINE, where the row begins. */
  readonly where: string;
}

/**
 * @param limit how many rows at most; rows after them are not looked at
 * @throws Error naming file and line of what is not an object, or the file when it has no rows
 */
export function readRows(path: string, limit = Number.POSITIVE_INFINITY): DataRow[] {
  const text = readText(path);
  const rows = /^\s*\[/.test(text) ? arrayRows(text, path, limit) : lineRows(text, path, limit);
  if (rows.length === 0) throw new Error(`Cannot use ${path}: received no rows, expected JSON objects`);
  return rows;
}

function lineRows(text: string, path: string, limit: number): DataRow[] {
  const rows: DataRow[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    if (line.trim() === "") continue;
    if (rows.length >= limit) break;
    const where = `${path}:${index + 1}`;
    rows.push({ fields: object(parse(line, where), where), where });
  }
  return rows;
}

function arrayRows(text: string, path: string, limit: number): DataRow[] {
  const items = parse(text, path) as unknown[];
  const lines = itemLines(text);
  return items.slice(0, limit).map((item, index) => {
    const where = `${path}:${lines[index]}`;
    return { fields: object(item, where), where };
  });
}

/** The line on which each item of the outermost array begins. The text must have passed JSON.parse. */
function itemLines(text: string): number[] {
  const lines: number[] = [];
  let line = 1;
  let depth = 0;
  let expected = false;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (char === "\n") line++;
    if (/\s/.test(char)) continue;
    if (expected && char !== "]") lines.push(line);
    expected = (char === "[" && depth === 0) || (char === "," && depth === 1);
    if (char === "[" || char === "{") depth++;
    else if (char === "]" || char === "}") depth--;
    else if (char === '"') for (i++; text[i] !== '"'; i++) if (text[i] === "\\") i++;
  }
  return lines;
}

function parse(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`Cannot read ${where}: ${error instanceof Error ? error.message : error}`);
  }
}

function object(value: unknown, where: string): JsonObject {
  if (!isObject(value)) throw new Error(`Cannot use ${where}: received ${kindOf(value)}, expected a JSON object`);
  return value;
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
