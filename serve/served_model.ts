/** A model as the routes see it: a name, an engine, its adapters, and the way between text and tokens. */
import { resolve } from "node:path";
import { type AdapterLease, AdapterRegistry, type LoadedAdapter } from "../runtime/adapters/registry.ts";
import type { AdapterRoots } from "../runtime/adapters/roots.ts";
import { AdapterWatch } from "../runtime/adapters/watch.ts";
import { readSamplingDefaults, type SamplingDefaults } from "../runtime/chat/sampling.ts";
import { EngineClient, type EngineClientOptions, type EngineState } from "../runtime/engine/client.ts";
import type { EngineModelInfo } from "../runtime/engine/protocol.ts";
import { openTokenizer, type Tokenizer } from "../runtime/tokenizer/mod.ts";
import { ApiError } from "./errors.ts";
import type { Log } from "./logging/log.ts";

export interface ServedModel {
  /** The name that requests use for the base model; adapters go by their own. */
  readonly name: string;
  /** Its folder. */
  readonly dir: string;
  readonly adapters: AdapterRegistry;
  /** Where the API may load adapters from. */
  readonly adapterRoots: AdapterRoots;
  readonly engine: EngineClient;
  readonly tokenizer: Tokenizer;
  readonly defaults: SamplingDefaults;
  /** Unix time in seconds at which it was first served. */
  readonly created: number;
  /** The engine's, but "loading" until the adapters that the model is served with are there as well. */
  readonly status: EngineState["status"];
  /** Resolves when the model and the adapters that it is served with are there; rejects when that cannot be. */
  ready(): Promise<EngineModelInfo>;
}

export interface ServedModelOptions {
  readonly name: string;
  readonly dir: string;
  /** Its adapters are loaded as ones that can be replaced and unloaded. */
  readonly engine: EngineClientOptions;
  readonly adapterRoots: AdapterRoots;
  /** A folder whose folders are adapters; undefined: none is watched. */
  readonly watch: string | undefined;
}

/** Starts the engine. Throws an Error for a folder without a tokenizer, with nothing started. */
export function openServedModel(options: ServedModelOptions, log: Log): ServedModel {
  const { name, dir, adapterRoots } = options;
  const tokenizer = openTokenizer(dir);
  const defaults = readSamplingDefaults(dir);
  const { adapters: atStart, adapterModes = {}, ...engineOptions } = options.engine.engine;
  const engine = new EngineClient({
    ...options.engine,
    engine: { ...engineOptions, adapters: {} },
    knownAdapters: () => adapters.known(),
  });
  const adapters = new AdapterRegistry(name, engine);
  const loadAll = async (): Promise<EngineModelInfo> => {
    const model = await engine.ready();
    for (const [adapter, folder] of Object.entries(atStart)) {
      await adapters.load({ name: adapter, dir: resolve(folder), mode: adapterModes[adapter] });
    }
    if (options.watch !== undefined) await watchAdapters(options.watch, adapters, log);
    return model;
  };
  let isComplete = false;
  const loaded = loadAll().then((model) => {
    isComplete = true;
    return model;
  });
  // Whoever waits for it gets the error.
  loaded.catch(() => {});
  return {
    ...{ name, dir, adapters, adapterRoots, engine, tokenizer, defaults },
    created: Math.floor(Date.now() / 1000),
    get status() {
      return engine.state.status === "ready" && !isComplete ? "loading" : engine.state.status;
    },
    ready: () => loaded,
  };
}

/** To the end of the process: without an engine it loads nothing. */
async function watchAdapters(dir: string, registry: AdapterRegistry, log: Log): Promise<void> {
  await AdapterWatch.start({
    dir,
    registry,
    onLoaded: ({ name, generation }) => log.info({ adapter: name, generation }, "adapter loaded"),
    onRefused: (name, reason) => log.warn({ adapter: name, reason }, "adapter not loaded"),
  });
}

/** The names that requests may use. */
export function modelNames({ name, adapters }: ServedModel): readonly string[] {
  return [name, ...adapters.list().map((adapter) => adapter.name)];
}

/** The adapter that a model name stands for, undefined for the base. Throws an ApiError (404) for other names. */
export function findAdapter(served: ServedModel, model: string): LoadedAdapter | undefined {
  const adapter = served.adapters.get(model);
  if (!adapter && model !== served.name) throw modelNotFound(served, model);
  return adapter;
}

/** A hold on the newest generation of the adapter that a model name stands for; otherwise as `findAdapter`. */
export function leaseAdapter(served: ServedModel, model: string): AdapterLease | undefined {
  const lease = served.adapters.lease(model);
  if (!lease && model !== served.name) throw modelNotFound(served, model);
  return lease;
}

export function modelNotFound(served: ServedModel, model: string): ApiError {
  const known = modelNames(served).join(", ");
  return new ApiError(404, "model_not_found", `The model "${model}" does not exist; this server has ${known}`, "model");
}
