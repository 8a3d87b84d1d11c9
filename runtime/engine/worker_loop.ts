/** The loop around an EngineCore: take messages, step, send what came out, look for messages again. */
import type { Socket } from "node:net";
import { ModeNeededError } from "../adapters/open.ts";
import { FrameChannel } from "./frames.ts";
import type { EngineCore, EngineOptions, EngineOutput, FromEngine, ToEngine } from "./protocol.ts";
import { EventLoopYield } from "./worker_yield.ts";

/** How an engine module makes its engine; `onProgress` is called while weights are loaded. */
export type CreateEngine = (
  options: EngineOptions,
  onProgress: (stage: string, done: number, total: number) => void,
) => Promise<EngineCore>;

export interface WorkerArguments {
  socketPath: string;
  /** URL of the module whose `createEngine` makes the engine. */
  engineModule: string;
  options: EngineOptions;
}

/** Serves the protocol on `socket` until shutdown, loss of the connection or failure; resolves to the exit code. */
export async function runWorker(args: WorkerArguments, socket: Socket): Promise<number> {
  const inbox: ToEngine[] = [];
  let connected = true;
  let wake = () => {};
  const eventLoop = new EventLoopYield();
  const channel = new FrameChannel<ToEngine, FromEngine>(
    socket,
    (message) => {
      inbox.push(message);
      wake();
    },
    () => {
      connected = false;
      wake();
    },
  );

  try {
    const { createEngine } = (await import(args.engineModule)) as { createEngine: CreateEngine };
    using core = await createEngine(args.options, (stage, done, total) => {
      channel.send({ type: "loading", stage, done, total });
    });
    channel.send({ type: "ready", model: core.model });

    while (connected) {
      const outputs: EngineOutput[] = [];
      for (const message of inbox.splice(0)) {
        if (message.type === "shutdown") return 0;
        handle(core, message, outputs, channel);
      }
      if (core.hasWork()) outputs.push(...core.step());
      if (outputs.length > 0) channel.send({ type: "outputs", outputs });

      const waiting = core.hasWork() && inbox.length === 0 ? core.waiting() : undefined;
      if (waiting) {
        const message = new Promise<void>((resolve) => {
          wake = resolve;
        });
        if (connected) await Promise.race([waiting, message]);
      } else if (core.hasWork()) {
        // A reader that does not keep up stops the engine here instead of growing this process's send queue.
        await channel.drained();
        // Lets the event loop deliver what has arrived, so that an abort takes effect before the next step.
        await eventLoop.pause();
      } else if (inbox.length === 0 && connected) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
    return 0;
  } catch (error) {
    channel.send({ type: "failed", error: error instanceof Error ? error.message : String(error) });
    await channel.drained();
    return 1;
  } finally {
    await new Promise<void>((resolve) => socket.end(resolve));
  }
}

function handle(
  core: EngineCore,
  message: Exclude<ToEngine, { type: "shutdown" }>,
  outputs: EngineOutput[],
  channel: FrameChannel<ToEngine, FromEngine>,
): void {
  switch (message.type) {
    case "add":
      try {
        core.add(message.request);
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        outputs.push({ id: message.request.id, tokens: [], finish: "error", error: reason });
      }
      break;
    case "abort":
      core.abort(message.id);
      break;
    case "stats":
      channel.send({ type: "stats", query: message.query, stats: core.stats() });
      break;
    case "load_adapter": {
      const { query, adapter } = message;
      core.loadAdapter(adapter).then(
        (found) => channel.send({ type: "adapter", query, found }),
        (error: Error) => {
          const needsMode = error instanceof ModeNeededError;
          channel.send({ type: "adapter_refused", query, error: error.message, needsMode });
        },
      );
      break;
    }
    case "know_adapters":
      core.knowAdapters(message.adapters);
      break;
    case "free_adapter":
      core.freeAdapter(message.key);
      break;
  }
}
