/** The real server as a process of its own, started as a user starts it. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { repositoryRoot } from "../shared.ts";

export const RUNTIMES = ["bun", "deno"] as const;
export type Runtime = (typeof RUNTIMES)[number];

export const FAKE_ENGINE = fileURLToPath(new URL("./fake_engine.ts", import.meta.url));

const START_MS = 120_000;

export interface ServerProcess {
  readonly url: string;
  readonly pid: number;
  /** What it has printed so far, standard output and error in one. */
  output(): string;
  /** Sends a signal and resolves to the exit code once it is gone. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

export interface FinishedProcess {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs `scripts/apiq serve --port 0 ARGS` and resolves when it has printed its address. Throws if it ends before.
 * @param log file descriptor that gets its standard error in place of `output`
 */
export async function startServerProcess(
  runtime: Runtime,
  args: readonly string[],
  options: { env?: Record<string, string>; log?: number } = {},
): Promise<ServerProcess> {
  const child = spawn(`${repositoryRoot}scripts/apiq`, ["serve", "--port", "0", ...args], {
    stdio: ["ignore", "pipe", options.log ?? "pipe"],
    env: { ...process.env, ...options.env, APIQ_RUNTIME: runtime },
  });
  const exited = once(child, "exit") as Promise<[number | null]>;
  let output = "";
  const { promise: url, resolve, reject } = Promise.withResolvers<string>();
  const collect = (chunk: Uint8Array) => {
    output += new TextDecoder().decode(chunk);
    const match = /http:\/\/\S+:\d+/.exec(output);
    if (match) resolve(match[0]);
  };
  child.stdout?.on("data", collect);
  child.stderr?.on("data", collect);
  exited.then(() => reject(new Error(`The server ended before it was ready: ${output}`)), reject);
  const timer = setTimeout(() => reject(new Error(`The server did not start in time: ${output}`)), START_MS);
  const stop = async (signal: NodeJS.Signals = "SIGTERM") => {
    child.kill(signal);
    const [code] = await exited;
    return code;
  };
  try {
    return { url: await url, pid: child.pid ?? 0, output: () => output, stop };
  } catch (error) {
    await stop("SIGKILL");
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** Runs `scripts/apiq ARGS` to its end, with `input` as standard input. */
export async function runApiq(
  runtime: Runtime,
  args: readonly string[],
  options: { input?: string; command?: string; cwd?: string; env?: Record<string, string> } = {},
): Promise<FinishedProcess> {
  const child = spawn(options.command ?? `${repositoryRoot}scripts/apiq`, args, {
    stdio: ["pipe", "pipe", "pipe"],
    cwd: options.cwd,
    env: { ...process.env, ...options.env, APIQ_RUNTIME: runtime },
  });
  const collected = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].on("data", (chunk: Uint8Array) => {
      collected[name] += new TextDecoder().decode(chunk);
    });
  }
  // A command that fails before it reads closes the pipe; its exit code tells the story.
  child.stdin.on("error", () => {});
  child.stdin.end(options.input ?? "");
  const [code] = (await once(child, "close")) as [number | null];
  return { code, ...collected };
}
