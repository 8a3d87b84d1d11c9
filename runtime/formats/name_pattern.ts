/** Regular expressions over module names: peft's rank_pattern and alpha_pattern, GPTQModel's dynamic. */
import { FormatError } from "./failure.ts";
import { isObject, kindOf } from "./json.ts";

export interface NamePattern {
  readonly regex: RegExp;
  readonly value: number;
}

/** Patterns come from strangers and a backtracking regex can run for ever: this bounds them, names stay under 100 characters. */
const MAX_LENGTH = 500;
const MAX_REPEATS = 3;
const REPEATED_GROUP = /\)[*+{]/;

/**
 * Reads one of the two patterns. As in peft, a key matches a name as a whole or its end after a dot, and the first one counts.
 *
 * @throws {FormatError} for values that are no positive numbers and for keys that are no regular expression or a costly one.
 */
export function parsePatterns(value: unknown, key: string, file: string): NamePattern[] {
  if (value === undefined || value === null) return [];
  const fail = (reason: string, received: unknown, expected?: unknown): FormatError =>
    new FormatError("use", { file, reason, received, expected });
  if (!isObject(value)) throw fail(`bad ${key}`, kindOf(value), "object");
  return Object.entries(value).map(([pattern, number]) => {
    if (typeof number !== "number" || !(number > 0)) throw fail(`bad value in ${key}`, number, "a positive number");
    return { regex: parseRegex(pattern, (text) => `^(.*\\.)?(${text})$`, key, file), value: number };
  });
}

/**
 * Compiles a pattern over module names that comes from a file.
 *
 * @param whole puts into it how it is to match
 * @param key where in the file it stands, for messages
 * @throws {FormatError} for what is no regular expression or a costly one
 */
export function parseRegex(pattern: string, whole: (pattern: string) => string, key: string, file: string): RegExp {
  const fail = (reason: string, expected: string): FormatError =>
    new FormatError("use", { file, reason, received: pattern, expected });
  if (isCostly(pattern))
    throw fail(`too complicated a pattern in ${key}`, `at most ${MAX_REPEATS} repeats, none of a group`);
  try {
    return new RegExp(whole(pattern));
  } catch {
    throw fail(`bad pattern in ${key}`, "a regular expression");
  }
}

function isCostly(pattern: string): boolean {
  const repeats = pattern.match(/[*+{]/g)?.length ?? 0;
  return pattern.length > MAX_LENGTH || repeats > MAX_REPEATS || REPEATED_GROUP.test(pattern);
}
