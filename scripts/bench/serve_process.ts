/** A server under load, as a process: start, stop, and the processor time it has used. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";

const PROGRAM = join(import.meta.dirname, "..", "apiq");
const LOAD_MS = 60_000;
/** The server gives running answers ten seconds. */
const STOP_MS = 15_000;

export type Runtime = "bun" | "deno";

export interface ServerProcess {
  readonly url: string;
  /** The process that speaks HTTP; the engine is its child. */
  readonly pid: number;
  readonly command: string;
  stop(): Promise<void>;
}

/** Starts `scripts/apiq serve` on a free port of the loopback interface; resolves when the model is loaded. */
export async function startServer(runtime: Runtime, args: readonly string[]): Promise<ServerProcess> {
  // Deno's permission to listen names the port, so the server cannot be asked to find one.
  const port = await freePort();
  const allArgs = ["serve", "--host", "127.0.0.1", "--port", String(port), ...args];
  const child = spawn(PROGRAM, allArgs, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, APIQ_RUNTIME: runtime },
  });
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  try {
    await ready(child);
  } catch (error) {
    kill();
    throw error;
  }
  return {
    url: `http://127.0.0.1:${port}`,
    pid: child.pid as number,
    command: `${runtime === "deno" ? "APIQ_RUNTIME=deno " : ""}scripts/apiq ${allArgs.join(" ")}`,
    async stop() {
      process.off("exit", kill);
      if (child.exitCode !== null) return;
      const closed = once(child, "close");
      child.kill("SIGTERM");
      const timer = setTimeout(kill, STOP_MS);
      await closed;
      clearTimeout(timer);
    },
  };
}

async function ready(child: ChildProcess): Promise<void> {
  let said = "";
  const announced = new Promise<void>((resolve, reject) => {
    child.stderr?.on("data", (data: Buffer) => {
      said = `${said}${data}`.slice(-2000);
    });
    child.stdout?.on("data", (data: Buffer) => {
      if (data.includes(" serves ")) resolve();
    });
    child.once("error", reject);
    child.once("close", (code) => reject(new Error(`Cannot start server: it ended with code ${code}: ${said.trim()}`)));
  });
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    const fail = () => reject(new Error(`Cannot start server: no model after ${LOAD_MS} ms: ${said.trim()}`));
    timer = setTimeout(fail, LOAD_MS);
  });
  try {
    await Promise.race([announced, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("Cannot find a free port: received no number");
  server.close();
  await once(server, "close");
  return address.port;
}

/** Linux counts a process's time in hundredths of a second for everyone who asks (USER_HZ). */
const TICKS_PER_SECOND = 100;

/** Processor seconds that a process has used so far, user and system, all threads; 0 once it is gone. */
export function processorSeconds(pid: number): number {
  try {
    // The second field, the name, may hold anything; behind its closing bracket come state (3), ..., utime (14), stime (15).
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /s, "")
      .split(" ");
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  } catch {
    return 0;
  }
}

/** Processes that a process has started and that still run. */
export function childrenOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((thread) => {
    const text = readFileSync(`/proc/${pid}/task/${thread}/children`, "utf8").trim();
    return text === "" ? [] : text.split(" ").map(Number);
  });
}
