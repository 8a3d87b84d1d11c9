/** From an argument list to typed flag values, by a command's specs. */
import { type Command, type FlagSpec, type FlagSpecs, type FlagValues, UsageError } from "./command.ts";
import { parseBytes } from "./format.ts";
import { suggestion } from "./suggest.ts";

type Scalar = string | number | boolean;

export interface ParsedArguments {
  readonly flags: FlagValues<FlagSpecs>;
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
  const seen = new Map<string, Scalar[]>();
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
      seen.set(flag.name, [...values, typeof value === "boolean" ? value : readValue(written, flag.spec, value)]);
    } else if (arg.startsWith("-") && arg.length > 1 && !isNumber(arg)) {
      throw new UsageError(`Unknown flag ${arg}${suggestion(arg.replace(/^-+/, ""), specs.keys(), "--")}`);
    } else {
      positionals.push(arg);
    }
  }

  checkPositionals(command, positionals);
  const flags: Record<string, Scalar | readonly Scalar[] | undefined> = {};
  for (const [written, { name, spec }] of specs) {
    const values = seen.get(name) ?? [];
    if (spec.required && values.length === 0)
      throw new UsageError(`Missing --${written} ${placeholder(spec)}`.trimEnd());
    flags[name] = spec.multiple ? values : (values[0] ?? defaultValue(written, spec));
  }
  // The loop above produced, for every spec, what FlagValue says about it.
  return { flags: flags as FlagValues<FlagSpecs>, positionals };
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

function readValue(written: string, spec: FlagSpec, text: string): Scalar {
  const refuse = (expected: string): never => {
    throw new UsageError(`Cannot read --${written}: received "${text}", expected ${expected}`);
  };
  if (spec.type === "string") {
    if (spec.choices && !spec.choices.includes(text)) {
      refuse(`one of ${spec.choices.join(", ")}${suggestion(text, spec.choices)}`);
    }
    return text;
  }
  const value = spec.type === "bytes" ? parseBytes(text) : isNumber(text) ? Number(text) : undefined;
  const kind = { integer: "a whole number", number: "a number", bytes: "a size such as 512M or 2G", boolean: "" }[
    spec.type
  ];
  if (value === undefined || (spec.type === "integer" && !Number.isSafeInteger(value))) return refuse(kind);
  if (spec.min !== undefined && value < spec.min) refuse(`${kind}, at least ${spec.min}`);
  if (spec.max !== undefined && value > spec.max) refuse(`${kind}, at most ${spec.max}`);
  return value;
}

/** A default may be written as on the command line ("4M"), which reads better in the help. */
function defaultValue(written: string, spec: FlagSpec): Scalar | undefined {
  if (spec.type === "boolean") return spec.undecided ? undefined : false;
  return typeof spec.default === "string" ? readValue(written, spec, spec.default) : spec.default;
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
