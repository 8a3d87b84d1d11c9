/** From the process's arguments to one command's exit code. */
import { type Command, UsageError } from "./command.ts";
import { parseArguments } from "./flags.ts";
import { commandHelp, globalHelp } from "./help.ts";
import type { Output } from "./output.ts";
import { suggestion } from "./suggest.ts";

export const EXIT_OK = 0;
export const EXIT_FAILURE = 1;
export const EXIT_USAGE = 2;
/** By convention 128 + SIGINT. */
export const EXIT_INTERRUPTED = 130;

export interface Program {
  readonly name: string;
  readonly summary: string;
  readonly version: string;
  readonly commands: readonly Command[];
}

/**
 * Runs the command that `args` name. Never throws: an error is printed on standard error and becomes exit code 1, unusable
 * arguments become 2. With APIQ_DEBUG set (`debug`), the stack is printed too.
 */
export async function runProgram(
  program: Program,
  args: readonly string[],
  out: Output,
  signal: AbortSignal,
  debug = false,
): Promise<number> {
  const beforeSeparator = args.includes("--") ? args.slice(0, args.indexOf("--")) : args;
  const wantsHelp = beforeSeparator.some((arg) => arg === "--help" || arg === "-h");
  let hint = `${program.name} --help`;
  try {
    const first = args[0];
    if (first === "--version" || first === "-v") {
      out.line(`${program.name} ${program.version}`);
      return EXIT_OK;
    }
    if (first === undefined || first === "--help" || first === "-h" || first === "help") {
      out.line(globalHelp(program.name, program.summary, program.commands, out));
      return first === undefined ? EXIT_USAGE : EXIT_OK;
    }
    const found = findCommand(program.commands, args);
    if ("verbs" in found) {
      if (!wantsHelp) throw new UsageError(groupMistake(found, args[1]));
      out.line(globalHelp(`${program.name} ${found.group}`, "one of several commands", found.verbs, out));
      return EXIT_OK;
    }
    const command = found;
    hint = `${program.name} ${command.name} --help`;
    if (wantsHelp) {
      out.line(commandHelp(program.name, command, out));
      return EXIT_OK;
    }
    const parsed = parseArguments(command, args.slice(command.name.split(" ").length));
    return await command.run({ ...parsed, out, isTerminal: out.isTerminal, signal });
  } catch (error) {
    out.error(describe(error, debug));
    if (!(error instanceof UsageError)) return EXIT_FAILURE;
    out.note(`Try ${hint}`);
    return EXIT_USAGE;
  }
}

/** Commands of two words that share the first, for example "eval nll" and "eval tasks". */
interface Group {
  readonly group: string;
  readonly verbs: readonly Command[];
}

/** The command whose one- or two-word name starts `args`, or the group when only its first word is there. */
function findCommand(commands: readonly Command[], args: readonly string[]): Command | Group {
  const [first = "", second = ""] = args;
  const exact =
    commands.find(({ name }) => name === `${first} ${second}`) ?? commands.find(({ name }) => name === first);
  if (exact) return exact;
  const verbs = commands.filter(({ name }) => name.startsWith(`${first} `));
  if (verbs.length > 0) return { group: first, verbs };
  const words = new Set(commands.map(({ name }) => name.split(" ")[0] ?? name));
  const what = first.startsWith("-") ? "flag" : "command";
  throw new UsageError(`Unknown ${what} "${first}"${suggestion(first, words)}`);
}

function groupMistake({ group, verbs }: Group, second: string | undefined): string {
  const words = verbs.map(({ name }) => name.slice(group.length + 1));
  if (second === undefined || second.startsWith("-"))
    return `Missing what to ${group}: expected one of ${words.join(", ")}`;
  return `Unknown command "${group} ${second}"${suggestion(second, words, `${group} `)}`;
}

function describe(error: unknown, debug: boolean): string {
  if (!(error instanceof Error)) return String(error);
  return debug ? (error.stack ?? error.message) : error.message;
}
