/**
 * Main module of the engine process. It is started by spawn.ts with one argument, a JSON `WorkerArguments`; connects to the
 * Unix socket named there, loads the engine and serves the protocol until told to stop or until the other side is gone.
 */
import { connect } from "node:net";
import process from "node:process";
import { runWorker, type WorkerArguments } from "./worker_loop.ts";

/** A caller that passes something else is a bug in spawn.ts, so this only has to fail early and clearly. */
function readArguments(text: string | undefined): WorkerArguments {
  if (text === undefined) throw new Error("Cannot start engine: received no argument, expected JSON from spawn.ts");
  return JSON.parse(text) as WorkerArguments;
}

// Ctrl-C in a terminal reaches the whole process group; when to stop is the parent's decision, told through the socket.
process.on("SIGINT", () => {});

const args = readArguments(process.argv[2]);
process.exit(await runWorker(args, connect(args.socketPath)));
