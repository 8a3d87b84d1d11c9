/** From an argument list to typed flag values, by a command's specs. */
import {
  type Command,
  type FlagScalar,
  type FlagSpec,
  type FlagSpecs,
  type FlagValues,
  UsageError,
} from "./command.ts";
import { parseBytes } from "./format.ts";
import { suggestion } from "./suggest.ts";

export interface ParsedArguments {
  readonly flags: FlagValues<FlagSpecs>;
  /** Names of the flags that were there; the others have their defaults. */
  readonly given: ReadonlySet<string>;
  readonly positionals: readonly string[];
}

/** maxSequences -> max-sequences */
export function kebabCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/**
 * Parses `--flag=value`, `--flag value`, `--switch`, `--no-switch` and `--` (the rest is positional). Throws `UsageError` for
 * an unknown flag (with the nearest known one), a missing or unreadable value, a repeated single flag, and a wrong number of
 * positionals.
 */
export function parseArguments(
  command: Pick<Command, "flags" | "positionals">,
  args: readonly string[],
): ParsedArguments {
  const specs = new Map(Object.entries(command.flags).map(([name, spec]) => [kebabCase(name), { name, spec }]));
  const seen = new Map<string, FlagScalar[]>();
  const positionals: string[] = [];

  const queue = [...args];
  for (let arg = queue.shift(); arg !== undefined; arg = queue.shift()) {
    if (arg === "--") {
      positionals.push(...queue.splice(0));
    } else if (arg.startsWith("--")) {
      const equals = arg.indexOf("=");
      const written = equals < 0 ? arg.slice(2) : arg.slice(2, equals);
      const inline = equals < 0 ? undefined : arg.slice(equals + 1);
      const negated = written.startsWith("no-") && specs.get(written.slice(3))?.spec.type === "boolean";
      const flag = specs.get(negated ? written.slice(3) : written);
      if (!flag) throw new UsageError(`Unknown flag --${written}${suggestion(written, specs.keys(), "--")}`);
      const value =
        flag.spec.type === "boolean" ? switchValue(written, inline, negated) : takeValue(written, inline, queue);
      const values = seen.get(flag.name) ?? [];
      if (values.length > 0 && !flag.spec.multiple) throw new UsageError(`Cannot give --${written} more than once`);
      seen.set(flag.name, [
        ...values,
        typeof value === "boolean" ? value : readValue(`--${written}`, flag.spec, value),
      ]);
    } else if (arg.startsWith("-") && arg.length > 1 && !isNumber(arg)) {
      throw new UsageError(`Unknown flag ${arg}${suggestion(arg.replace(/^-+/, ""), specs.keys(), "--")}`);
    } else {
      positionals.push(arg);
    }
  }

  checkPositionals(command, positionals);
  const flags: Record<string, FlagScalar | readonly FlagScalar[] | undefined> = {};
  for (const [written, { name, spec }] of specs) {
    const values = seen.get(name) ?? [];
    if (spec.required && values.length === 0)
      throw new UsageError(`Missing --${written} ${placeholder(spec)}`.trimEnd());
    flags[name] = spec.multiple ? values : (values[0] ?? defaultValue(written, spec));
  }
  // The loop above produced, for every spec, what FlagValue says about it.
  return { flags: flags as FlagValues<FlagSpecs>, given: new Set(seen.keys()), positionals };
}

/** How a flag's value is called in help and errors; empty for a switch. */
export function placeholder(spec: FlagSpec): string {
  if (spec.placeholder) return spec.placeholder;
  if (spec.choices) return spec.choices.join("|");
  return { boolean: "", string: "TEXT", integer: "N", number: "X", bytes: "SIZE" }[spec.type];
}

function switchValue(written: string, inline: string | undefined, negated: boolean): boolean {
  if (inline !== undefined) throw new UsageError(`Cannot read --${written}=${inline}: the flag takes no value`);
  return !negated;
}

function takeValue(written: string, inline: string | undefined, queue: string[]): string {
  const next = queue[0];
  if (inline !== undefined) return inline;
  if (next === undefined || (next.startsWith("--") && next.length > 2)) {
    throw new UsageError(`Missing value for --${written}`);
  }
  queue.shift();
  return next;
}

/**
 * Reads the text of a value.
 * @param source where it stands, for errors: "--port"
 * @throws UsageError for text that the flag does not take
 */
export function readValue(source: string, spec: FlagSpec, text: string): FlagScalar {
  const value = parseValue(spec, text);
  if (value === undefined) {
    const near = spec.choices ? suggestion(text, spec.choices) : "";
    throw new UsageError(`Cannot read ${source}: received "${text}", expected ${expectation(spec)}${near}`);
  }
  return value;
}

function parseValue(spec: FlagSpec, text: string): FlagScalar | undefined {
  switch (spec.type) {
    case "string":
      return !spec.choices || spec.choices.includes(text) ? text : undefined;
    case "boolean":
      return { true: true, false: false }[text];
    case "bytes":
      return inRange(spec, parseBytes(text));
    default:
      return inRange(spec, isNumber(text) ? Number(text) : undefined);
  }
}

/** `value`, or undefined where the flag does not take this number. */
export function inRange({ type, min, max }: FlagSpec, value: number | undefined): number | undefined {
  if (value === undefined || (type === "integer" && !Number.isSafeInteger(value))) return undefined;
  return value < (min ?? value) || value > (max ?? value) ? undefined : value;
}

/** What a flag takes, in words: "a whole number, at least 1". */
export function expectation({ type, choices, min, max }: FlagSpec): string {
  if (choices) return `one of ${choices.join(", ")}`;
  const kind = {
    boolean: "true or false",
    string: "a text",
    integer: "a whole number",
    number: "a number",
    bytes: "a size such as 512M or 2G",
  }[type];
  const bounds = [min === undefined ? "" : `, at least ${min}`, max === undefined ? "" : `, at most ${max}`];
  return `${kind}${bounds.join("")}`;
}

/** A default may be written as on the command line ("4M"), which reads better in the help. */
function defaultValue(written: string, spec: FlagSpec): FlagScalar | undefined {
  if (spec.type === "boolean") return spec.undecided ? undefined : false;
  return typeof spec.default === "string" ? readValue(`--${written}`, spec, spec.default) : spec.default;
}

function isNumber(text: string): boolean {
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text);
}

function checkPositionals(command: Pick<Command, "positionals">, given: readonly string[]): void {
  const specs = command.positionals ?? [];
  const missing = specs.find((spec, index) => spec.required && given[index] === undefined);
  if (missing) throw new UsageError(`Missing ${missing.name} (${missing.summary})`);
  const extra = given[specs.length];
  if (extra !== undefined && !specs.at(-1)?.multiple) throw new UsageError(`Unexpected argument "${extra}"`);
}
