/** A running server: the app, its listener and, if there is a model, its engine. */
import type { EngineState } from "../runtime/engine/client.ts";
import { Admission } from "./admission.ts";
import type { ApiKeys } from "./api_keys.ts";
import { createApp } from "./app.ts";
import { ClientLimits, type LimitSettings } from "./limits/client_limits.ts";
import { type Listener, listen } from "./listen.ts";
import type { Log } from "./logging/log.ts";
import { RequestMetrics } from "./metrics/request_metrics.ts";
import { RunningRequests } from "./running_requests.ts";
import { openServedModel, type ServedModel, type ServedModelOptions } from "./served_model.ts";
import type { ServerState } from "./service.ts";
import type { Tracing } from "./tracing/tracing.ts";

/** What connections need to take the last bytes of answers that are complete. */
const FLUSH_MS = 1000;

/** The part of ServerState that is given, and how to listen. */
export interface ServerOptions
  extends Pick<ServerState, "version" | "maxBodyBytes" | "bodySeconds" | "requestSeconds" | "logPrompts"> {
  readonly hostname: string;
  readonly port: number;
  /** How many answers may wait for the engine before requests are turned away. */
  readonly maxQueue: number;
  readonly limits: LimitSettings;
  /** Undefined: everyone may ask. */
  readonly apiKeys: ApiKeys | undefined;
  readonly corsOrigins: readonly string[];
  /** How long running answers may go on after the server was told to stop. */
  readonly drainSeconds: number;
  readonly log: Log;
  readonly tracing: Tracing | undefined;
  /** Undefined: serve without a model. */
  readonly model: ServedModelOptions | undefined;
  onEngineState(state: EngineState): void;
}

export interface Server {
  readonly url: string;
  readonly served: ServedModel | undefined;
  /** Takes no more work, lets running requests finish for a while, then ends them, the engine and the listener. */
  stop(): Promise<void>;
}

/**
 * Listens at once; the model is loaded meanwhile (`served.ready()`). Throws an Error when the model's tokenizer cannot
 * be read or the address cannot be had, leaving nothing running.
 */
export async function startServer(options: ServerOptions): Promise<Server> {
  const { hostname, port, model, log, tracing } = options;
  const metrics = new RequestMetrics();
  const running = new RunningRequests();
  const onState = (state: EngineState) => {
    if (state.status === "restarting") metrics.countRestart();
    options.onEngineState(state);
  };
  const served = model && openServedModel({ ...model, engine: { ...model.engine, onState } }, log);
  const app = createApp({
    ...options,
    served,
    metrics,
    running,
    admission: new Admission(options.maxQueue),
    limits: new ClientLimits(options.limits),
    browserAccess: { origins: options.corsOrigins, hostname, hasKeys: options.apiKeys !== undefined },
  });
  let listener: Listener;
  try {
    listener = await listen({ hostname, port, fetch: (request) => app.fetch(request) });
  } catch (error) {
    await served?.engine.close();
    throw error;
  }
  const url = `http://${hostname.includes(":") ? `[${hostname}]` : hostname}:${listener.port}`;
  log.info({ address: `${hostname} port ${listener.port}`, model: served?.name }, "listening");
  return {
    url,
    served,
    async stop() {
      log.info({}, "stopping: running answers have a moment to finish");
      // Until then it listens: whoever asks is told that it is going, and is not left to guess.
      await running.drain(options.drainSeconds * 1000);
      await within(FLUSH_MS, listener.drain());
      await served?.engine.close();
      await listener.close();
      await tracing?.close();
      log.info({}, "stopped");
    },
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
