/**
 * Regular expressions of JSON schemas, made safe for JSON text. XGrammar writes what a pattern matches between the quotes of a
 * JSON string as it is, so that `.` would let a quote or a line feed through. Here patterns lose the characters that JSON has to
 * escape (quote, backslash, control characters) wherever they stand for many, and get the escape where they stand for one.
 */

/** Code points that cannot stand in a JSON string as they are. */
const FORBIDDEN: readonly (readonly [first: number, last: number])[] = [
  [0x00, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
];
const FORBIDDEN_CLASS = '"\\\\\\x00-\\x1f';
const CONTROL: Readonly<Record<string, number>> = { t: 0x09, n: 0x0a, v: 0x0b, f: 0x0c, r: 0x0d };
/** What a class escape becomes outside of brackets. */
const CLASSES: Readonly<Record<string, string>> = {
  s: " ",
  S: `[^ ${FORBIDDEN_CLASS}]`,
  D: `[^0-9${FORBIDDEN_CLASS}]`,
  W: `[^a-zA-Z0-9_${FORBIDDEN_CLASS}]`,
};

/** A pattern for strings of `least` to `most` characters, none of which JSON would have to escape. */
export function lengthPattern(least: number, most: number | undefined): string {
  return `[^${FORBIDDEN_CLASS}]{${least},${most ?? ""}}`;
}

/** @throws {Error} with a short reason when the pattern cannot be made safe. */
export function jsonPattern(pattern: string): string {
  let safe = "";
  const rest = new PatternReader(pattern);
  while (!rest.isAtEnd) {
    const part = rest.next();
    if (part === "[") safe += safeClass(rest);
    else if (part === ".") safe += `[^${FORBIDDEN_CLASS}]`;
    else if (part[0] === "\\" && part.length === 2 && CLASSES[part[1]] !== undefined) safe += CLASSES[part[1]];
    else safe += safeCharacter(part);
  }
  return safe;
}

/** A character outside of brackets: itself, or its JSON escape. */
function safeCharacter(part: string): string {
  const code = codeOf(part);
  if (code === undefined || !isForbidden(code)) return part;
  const escaped = JSON.stringify(String.fromCodePoint(code)).slice(1, -1);
  return escaped.replaceAll("\\", "\\\\");
}

/** The rest of a class whose "[" has been read. */
function safeClass(rest: PatternReader): string {
  const isNegated = rest.takeIf("^");
  let members = "";
  let part = rest.next();
  for (; part !== "]"; part = rest.next()) {
    const first = codeOf(part);
    if (first === undefined) {
      members += memberEscape(part);
      continue;
    }
    let last = first;
    if (rest.isRange && rest.takeIf("-")) {
      const end = codeOf(rest.next());
      if (end === undefined || end < first) throw new Error("a range in it has no end");
      last = end;
    }
    // XGrammar reads ranges from there on as bytes of UTF-8.
    if (last > 0x7f) throw new Error("characters beyond ASCII inside [] are not supported");
    for (const [from, to] of withoutForbidden(first, last)) members += `${written(from)}-${written(to)}`;
  }
  if (isNegated) return `[^${members}${FORBIDDEN_CLASS}]`;
  if (members === "") throw new Error("a class in it matches only what JSON has to escape");
  return `[${members}]`;
}

function memberEscape(part: string): string {
  if (part === "\\s") return " ";
  if (part === "\\d" || part === "\\w") return part;
  throw new Error(`${part} inside [] is not supported`);
}

function withoutForbidden(first: number, last: number): (readonly [number, number])[] {
  let ranges: (readonly [number, number])[] = [[first, last]];
  for (const [from, to] of FORBIDDEN) {
    ranges = ranges.flatMap(([a, b]) => {
      const left = [a, Math.min(b, from - 1)] as const;
      const right = [Math.max(a, to + 1), b] as const;
      return b < from || a > to ? [[a, b] as const] : [left, right].filter(([x, y]) => x <= y);
    });
  }
  return ranges;
}

function written(code: number): string {
  return `\\x${code.toString(16).padStart(2, "0")}`;
}

function isForbidden(code: number): boolean {
  return FORBIDDEN.some(([first, last]) => code >= first && code <= last);
}

/** The one code point that a part stands for; undefined for a class such as \d. */
function codeOf(part: string): number | undefined {
  if (part[0] !== "\\") return part.codePointAt(0);
  const kind = part[1];
  if (kind === "x" || kind === "u") return Number.parseInt(part.slice(2), 16);
  if (CONTROL[kind] !== undefined) return CONTROL[kind];
  return /[a-zA-Z0-9]/.test(kind) ? undefined : part.codePointAt(1);
}

/** Cuts a pattern into characters and escapes. */
class PatternReader {
  readonly #pattern: string;
  #at = 0;

  constructor(pattern: string) {
    this.#pattern = pattern;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#pattern.length;
  }

  /** Whether what follows is a "-" that is not the last in its class. */
  get isRange(): boolean {
    return /^-[^\]]/.test(this.#pattern.slice(this.#at, this.#at + 2));
  }

  next(): string {
    const part = /^(?:\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|[^\\])/su.exec(this.#pattern.slice(this.#at))?.[0];
    if (part === undefined) throw new Error("it ends in the middle");
    this.#at += part.length;
    return part;
  }

  takeIf(char: string): boolean {
    const isNext = this.#pattern[this.#at] === char;
    if (isNext) this.#at++;
    return isNext;
  }
}
