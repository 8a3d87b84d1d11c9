/**
 * The shape of one verb of the command line. A command is data (name, flags, examples) plus `run`; parsing, help, suggestions,
 * exit codes and error printing are the same for all of them and live in the files around this one.
 */
import type { Output } from "./output.ts";

/** One `--flag`. Its key in `Command.flags` is camelCase; on the command line it is written `--in-kebab-case`. */
export interface FlagSpec {
  /** `bytes` accepts 512M, 2G, 1.5GiB; `integer` and `number` accept a plain decimal. */
  readonly type: "boolean" | "string" | "integer" | "number" | "bytes";
  readonly summary: string;
  /** How the value is called in the help, for example DIR. */
  readonly placeholder?: string;
  /** The only values a string flag accepts. */
  readonly choices?: readonly string[];
  /** Taken when the flag is absent, and may be text as one would type it ("4M"). A boolean flag defaults to false. */
  readonly default?: string | number;
  readonly required?: true;
  /** The flag may be repeated; its value is then a list, empty when absent. */
  readonly multiple?: true;
  readonly min?: number;
  readonly max?: number;
  /** Of a boolean flag: undefined where neither --flag nor --no-flag is given, because the default comes from elsewhere. */
  readonly undecided?: true;
}

export type FlagScalar = string | number | boolean;

export type FlagSpecs = Readonly<Record<string, FlagSpec>>;

type ScalarValue<S extends FlagSpec> = S["type"] extends "boolean"
  ? boolean
  : S["type"] extends "string"
    ? S extends { readonly choices: readonly (infer Choice)[] }
      ? Choice
      : string
    : number;

/** What `run` receives for a flag: never undefined when the flag is boolean (unless undecided), required, repeated or has a default. */
export type FlagValue<S extends FlagSpec> = S extends { readonly multiple: true }
  ? readonly ScalarValue<S>[]
  : S extends { readonly undecided: true }
    ? ScalarValue<S> | undefined
    : S extends { readonly type: "boolean" } | { readonly required: true } | { readonly default: string | number }
      ? ScalarValue<S>
      : ScalarValue<S> | undefined;

export type FlagValues<F extends FlagSpecs> = { readonly [Name in keyof F]: FlagValue<F[Name]> };

export interface PositionalSpec {
  /** Shown in the help, for example MODEL. */
  readonly name: string;
  readonly summary: string;
  readonly required?: true;
  /** Only for the last one: takes all that remain. */
  readonly multiple?: true;
}

export interface CommandContext<F extends FlagSpecs> {
  readonly flags: FlagValues<F>;
  /** Names of the flags that were on the command line; the others have their defaults. */
  readonly given: ReadonlySet<string>;
  readonly positionals: readonly string[];
  /** Standard output and error, colours, progress and JSON. Commands print through it only. */
  readonly out: Output;
  /** True when a person is watching standard output. */
  readonly isTerminal: boolean;
  /** Aborted by the first SIGINT or SIGTERM; a second one ends the process at once. */
  readonly signal: AbortSignal;
}

export interface Command<F extends FlagSpecs = FlagSpecs> {
  /** One word, or two separated by a space for a verb of a group ("eval nll"). */
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** Paragraphs for the command's own help, without the usage line, which is composed. */
  readonly description?: string;
  readonly flags: F;
  readonly positionals?: readonly PositionalSpec[];
  readonly examples?: readonly string[];
  /** Resolves to the exit code: 0 done, 1 failed. Throw `UsageError` for arguments that cannot be used (exit code 2). */
  run(context: CommandContext<F>): Promise<number>;
}

/** Arguments that cannot be used; printed with a pointer to the help, exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/**
 * Declares a command with its flags' types inferred, and erases them so that commands fit in one list:
 *
 * ```ts
 * export const greet = defineCommand({
 *   name: "greet",
 *   summary: "say hello",
 *   flags: { times: { type: "integer", summary: "how often", default: 1, min: 1 } },
 *   positionals: [{ name: "NAME", summary: "whom to greet", required: true }],
 *   async run({ flags, positionals, out }) {
 *     for (let i = 0; i < flags.times; i++) out.line(`Hello ${positionals[0]}`);
 *     return 0;
 *   },
 * });
 * ```
 */
export function defineCommand<const F extends FlagSpecs>(command: Command<F>): Command {
  // `run` receives exactly what parseFlags built from this command's own specs, which is what FlagValues<F> describes.
  return { ...command, run: (context) => command.run(context as CommandContext<F>) };
}
