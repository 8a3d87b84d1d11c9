import { readFileSync, statSync } from "node:fs";
import { FormatError } from "./failure.ts";

export type JsonObject = Record<string, unknown>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Reads a file that holds one JSON object.
 *
 * @throws {FormatError} when it is missing, larger than `maxBytes`, not UTF-8, not JSON or not an object.
 */
export function readJsonObject(file: string, maxBytes = 256 * 2 ** 20): JsonObject {
  return parseJsonObject(readBounded(file, maxBytes), file);
}

/** @throws {FormatError} naming `file` when the bytes are not UTF-8, not JSON or not an object. */
export function parseJsonObject(bytes: Uint8Array, file: string): JsonObject {
  return parseJsonText(decodeUtf8(bytes, file), file);
}

export function decodeUtf8(bytes: Uint8Array, file: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new FormatError("read", { file, reason: "not valid UTF-8" });
  }
}

export function parseJsonText(text: string, file: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new FormatError("parse", { file, reason: error instanceof Error ? error.message : String(error) });
  }
  if (!isObject(value)) {
    throw new FormatError("parse", {
      file,
      reason: "wrong top level",
      received: kindOf(value),
      expected: "object",
    });
  }
  return value;
}

/**
 * The keys of the outermost object of a JSON text, duplicates included: JSON.parse keeps the last one silently.
 * The text must have passed JSON.parse.
 */
export function topLevelKeys(json: string): string[] {
  const keys: string[] = [];
  let depth = 0;
  for (let i = 0; i < json.length; i++) {
    const char = json[i];
    if (char === "{" || char === "[") depth++;
    else if (char === "}" || char === "]") depth--;
    else if (char === '"') {
      const start = i++;
      for (; json[i] !== '"'; i++) if (json[i] === "\\") i++;
      if (depth === 1 && /^\s*:/.test(json.slice(i + 1, i + 64))) keys.push(JSON.parse(json.slice(start, i + 1)));
    }
  }
  return keys;
}

/** JSON with sorted keys and no spaces: one text for one value, whatever order it was written in. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (!isObject(value)) return JSON.stringify(value) ?? "null";
  const keys = Object.keys(value).filter((key) => value[key] !== undefined);
  return `{${keys
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonicalJson(value[key])}`)
    .join(",")}}`;
}

export function kindOf(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "array" : typeof value;
}

function readBounded(file: string, maxBytes: number): Uint8Array {
  const stat = statSync(file, { throwIfNoEntry: false });
  if (stat === undefined) throw new FormatError("read", { file, reason: "it does not exist" });
  if (!stat.isFile()) throw new FormatError("read", { file, reason: "not a regular file" });
  if (stat.size > maxBytes) {
    throw new FormatError("read", {
      file,
      reason: "too large",
      received: stat.size,
      expected: `at most ${maxBytes} bytes`,
    });
  }
  return readFileSync(file);
}
