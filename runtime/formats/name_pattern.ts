/** Regular expressions over module names: peft's rank_pattern and alpha_pattern, GPTQModel's dynamic. */
import { FormatError } from "./failure.ts";
import { isObject, kindOf } from "./json.ts";

export interface NamePattern {
  readonly regex: RegExp;
  readonly value: number;
}

/** Patterns come from strangers and a backtracking regex can run for ever: these bound it. */
const MAX_LENGTH = 500;
const MAX_WAYS = 4e6;
/** A repeat can end behind any character of a name. */
const NAME_LENGTH = 100;
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
    throw fail(`too complicated a pattern in ${key}`, "at most 3 repeats, none of a group, and few choices");
  try {
    // By itself first: its brackets are not to close those around it.
    new RegExp(pattern);
    return new RegExp(whole(pattern));
  } catch {
    throw fail(`bad pattern in ${key}`, "a regular expression");
  }
}

function isCostly(pattern: string): boolean {
  return pattern.length > MAX_LENGTH || REPEATED_GROUP.test(pattern) || waysToMatch(pattern) > MAX_WAYS;
}

/** More than all ways in which a matcher could go through a name: its choices at every repeat, option and alternative, multiplied. */
function waysToMatch(pattern: string): number {
  let ways = 1;
  /** Alternatives of the groups that are open. */
  const open = [1];
  for (const [part] of pattern.matchAll(/\\.|\[(?:\\.|[^\]])*\]|\(\?|[*+{?()|]/g)) {
    if (part.startsWith("(")) open.push(1);
    else if (part === "|") open[open.length - 1]!++;
    else if (part === ")") ways *= open.length > 1 ? open.pop()! : 1;
    else if (part === "?") ways *= 2;
    else if (part.length === 1) ways *= NAME_LENGTH;
  }
  return open.reduce((product, alternatives) => product * alternatives, ways);
}
