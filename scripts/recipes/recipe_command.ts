/** Recipes as commands: flags and help like apiq's own, Ctrl-C stops them, and a failure is one line. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { type Command, type FlagSpecs, type FlagValues, UsageError } from "../../runtime/cli/command.ts";
import { parseArguments } from "../../runtime/cli/flags.ts";
import { commandHelp } from "../../runtime/cli/help.ts";
import { Output } from "../../runtime/cli/output.ts";

/** Runs a command with the arguments of this process. @returns the exit code */
export async function runCommand<F extends FlagSpecs>(path: string, command: Command<F>): Promise<number> {
  const out = new Output(process.stdout, process.stderr, process.env);
  const args = process.argv.slice(2);
  if (args.includes("--help")) {
    out.line(commandHelp("bun", { ...command, name: path } as Command, out));
    return 0;
  }
  const interrupted = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => interrupted.abort());
  try {
    const { flags, positionals, given } = parseArguments(command, args);
    return await command.run({
      flags: flags as FlagValues<F>,
      positionals,
      given,
      out,
      isTerminal: out.isTerminal,
      signal: interrupted.signal,
    });
  } catch (error) {
    out.error(error instanceof Error ? error.message : String(error));
    return error instanceof UsageError ? 2 : 1;
  }
}

/**
 * Runs a script in a process of its own, whose output is this one's. Ctrl-C reaches it by itself, as it does all processes of a
 * terminal, so only SIGTERM is passed on: a second signal would end it before it has saved.
 * @returns its exit code
 */
export async function runScript(script: string, args: readonly string[], signal: AbortSignal): Promise<number> {
  signal.throwIfAborted();
  const child = spawn(process.execPath, [script, ...args], { stdio: "inherit" });
  const stop = (): boolean => child.kill("SIGTERM");
  process.on("SIGTERM", stop);
  try {
    const [code] = (await once(child, "close")) as [number | null];
    return code ?? 1;
  } finally {
    process.off("SIGTERM", stop);
  }
}
