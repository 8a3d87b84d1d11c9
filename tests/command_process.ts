/** scripts/apiq as a process of its own, for tests that stop it. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import type { Runtime } from "./http/server_process.ts";
import { repositoryRoot } from "./shared.ts";

export interface CommandResult {
  /** null where a signal ended it. */
  readonly code: number | null;
  /** What it wrote to standard error. */
  readonly errors: string;
}

/** @param flags by name, without dashes */
export function startCommand(runtime: Runtime, verb: readonly string[], flags: Readonly<Record<string, unknown>>) {
  const args = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, `${value}`]);
  const child = spawn(`${repositoryRoot}scripts/apiq`, [...verb, ...args], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, APIQ_RUNTIME: runtime },
  });
  let errors = "";
  child.stderr.on("data", (chunk: Uint8Array) => {
    errors += new TextDecoder().decode(chunk);
  });
  const done = once(child, "close").then(([code]): CommandResult => ({ code: code as number | null, errors }));
  return { child, done };
}

/**
 * Sends `signal` once `ready` says so.
 * @returns what the process wrote to standard error
 * @throws where it did its work to the end before that
 */
export async function stopWhen(
  { child, done }: ReturnType<typeof startCommand>,
  signal: NodeJS.Signals,
  ready: () => boolean,
): Promise<string> {
  while (!ready() && child.exitCode === null) await setTimeout(5);
  child.kill(signal);
  const { code, errors } = await done;
  if (code === 0) throw new Error(`The run ended before it could be stopped: ${errors}`);
  return errors;
}
