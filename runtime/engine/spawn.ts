/** Starts the engine process under the runtime this process runs on. */
import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { WorkerArguments } from "./worker_loop.ts";

const WORKER = fileURLToPath(new URL("./worker.ts", import.meta.url));
const ROOT = new URL("../../", import.meta.url);

/** Spawns worker.ts with `args`; its output goes to this process's standard error. */
export function spawnWorker(args: WorkerArguments): ChildProcess {
  const runtime = process.versions.deno === undefined ? ["run"] : ["run", ...denoFlags(args)];
  return spawn(process.execPath, [...runtime, WORKER, JSON.stringify(args)], {
    stdio: ["ignore", 2, 2],
    env: { ...process.env, MSGPACKR_NATIVE_ACCELERATION_DISABLED: "true" },
  });
}

/**
 * What the engine process may do under Deno, and why:
 * - ffi: call the kernel library, its whole point. (A library can do anything, so this is the one wide permission.)
 * - read: the program, the model and adapter folders, the library, /proc and /sys for the machine's memory and cores.
 * - write, net: the Unix socket to its parent; Deno counts connecting to it as writing the file.
 * - env: APIQ_* settings, and the variables that Deno's node layer looks up.
 * - run: Deno itself, for the processes that compile grammars (runtime/grammar).
 * Not granted: network addresses, any other program, any other writing.
 */
function denoFlags(args: WorkerArguments): string[] {
  return [
    "--quiet",
    "--no-prompt",
    "--cached-only",
    `--config=${fileURLToPath(new URL("deno.json", ROOT))}`,
    "--allow-ffi",
    "--allow-read",
    `--allow-write=${args.socketPath}`,
    `--allow-net=unix:${args.socketPath}`,
    "--allow-env",
    "--allow-sys",
    `--allow-run=${process.execPath}`,
  ];
}
