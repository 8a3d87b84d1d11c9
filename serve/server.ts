/** A running server: the app, its listener and, if there is a model, its engine. */
import { readSamplingDefaults } from "../runtime/chat/sampling.ts";
import { EngineClient, type EngineClientOptions, type EngineState } from "../runtime/engine/client.ts";
import { openTokenizer } from "../runtime/tokenizer/mod.ts";
import { Admission } from "./admission.ts";
import type { ApiKeys } from "./api_keys.ts";
import { createApp } from "./app.ts";
import { type Listener, listen } from "./listen.ts";
import { RequestMetrics } from "./metrics/request_metrics.ts";
import type { ServedModel } from "./served_model.ts";

/** How long running requests may go on after the server was told to stop. */
const DRAIN_MS = 10_000;

export interface ServerOptions {
  readonly hostname: string;
  readonly port: number;
  readonly version: string;
  readonly maxBodyBytes: number;
  /** How many answers may wait for the engine before requests are turned away. */
  readonly maxQueue: number;
  /** Undefined: everyone may ask. */
  readonly apiKeys: ApiKeys | undefined;
  /** Undefined: serve without a model. */
  readonly model: { readonly name: string; readonly dir: string; readonly engine: EngineClientOptions } | undefined;
  onEngineState(state: EngineState): void;
  log(text: string): void;
}

export interface Server {
  readonly url: string;
  readonly served: ServedModel | undefined;
  /** Lets running requests finish for a while, then ends them, the engine and the listener. */
  stop(): Promise<void>;
}

/**
 * Listens at once; the model is loaded meanwhile (`served.engine.ready()`). Throws an Error when the model's tokenizer cannot
 * be read or the address cannot be had, leaving nothing running.
 */
export async function startServer(options: ServerOptions): Promise<Server> {
  const served = options.model && serveModel(options.model, options.onEngineState);
  const app = createApp({
    served,
    version: options.version,
    maxBodyBytes: options.maxBodyBytes,
    admission: new Admission(options.maxQueue),
    apiKeys: options.apiKeys,
    metrics: new RequestMetrics(),
    log: options.log,
  });
  let listener: Listener;
  try {
    listener = await listen({ hostname: options.hostname, port: options.port, fetch: (request) => app.fetch(request) });
  } catch (error) {
    await served?.engine.close();
    throw error;
  }
  const host = options.hostname.includes(":") ? `[${options.hostname}]` : options.hostname;
  return {
    url: `http://${host}:${listener.port}`,
    served,
    async stop() {
      await within(DRAIN_MS, listener.drain());
      await served?.engine.close();
      await listener.close();
    },
  };
}

function serveModel(
  { name, dir, engine }: NonNullable<ServerOptions["model"]>,
  onState: (state: EngineState) => void,
): ServedModel {
  // Before the engine is started, so that a folder without a tokenizer is an error and not a process to stop again.
  const tokenizer = openTokenizer(dir);
  const defaults = readSamplingDefaults(dir);
  return {
    name,
    adapters: Object.keys(engine.engine.adapters),
    tokenizer,
    defaults,
    created: Math.floor(Date.now() / 1000),
    engine: new EngineClient({ ...engine, onState }),
  };
}

async function within(ms: number, work: Promise<void>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work, late]);
  clearTimeout(timer);
}
