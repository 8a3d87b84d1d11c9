/** Engines of the tiny model for tests of adapters, driven step by step. */
import { setImmediate } from "node:timers/promises";
import { Engine } from "../../runtime/engine/engine.ts";
import { type LoadedModel, loadModel } from "../../runtime/engine/loaded_model.ts";
import {
  type EngineOptions,
  type EngineOutput,
  type EngineRequest,
  GREEDY,
  type HotAdapterLimits,
} from "../../runtime/engine/protocol.ts";
import { TINY_VOCAB } from "../fixtures/tiny_model.ts";

export const LIMITS: HotAdapterLimits = { max: 4, memory: 4 << 20, maxRank: 16 };

export function loadTiny(model: string, changes: Partial<EngineOptions> = {}): LoadedModel {
  return loadModel({
    model,
    device: "cpu",
    threads: 1,
    contextLength: 256,
    maxSequences: 8,
    kvMemory: undefined,
    activations: "f32",
    adapters: {},
    hotAdapters: LIMITS,
    ...changes,
  });
}

export function openEngine(model: string, changes: Partial<EngineOptions> = {}): Engine {
  return new Engine(loadTiny(model, changes));
}

/** A greedy request for an adapter, or for the base. */
export function request(id: string, adapter?: string, changes: Partial<EngineRequest> = {}): EngineRequest {
  const prompt = Array.from({ length: 20 }, (_, i) => (i * 37 + 11) % TINY_VOCAB);
  return { id, prompt, maxTokens: 12, stopTokens: [], sampling: GREEDY, ...(adapter && { adapter }), ...changes };
}

/** Steps until `done`, as the engine's process does, and gives what came out. */
export async function stepUntil(engine: Engine, done: () => boolean): Promise<EngineOutput[]> {
  const outputs: EngineOutput[] = [];
  for (const deadline = performance.now() + 20_000; !done(); ) {
    if (performance.now() > deadline) throw new Error("the engine came to no end");
    if (engine.hasWork()) outputs.push(...engine.step());
    await (engine.waiting() ?? setImmediate());
  }
  return outputs;
}

/** Waits for `work` while the engine steps. */
export async function whileStepping<T>(engine: Engine, work: Promise<T>): Promise<T> {
  let settled = false;
  const end = () => {
    settled = true;
  };
  work.then(end, end);
  await stepUntil(engine, () => settled);
  return await work;
}

/** Runs requests together to their end: tokens by id, or the error. */
export async function run(
  engine: Engine,
  requests: readonly EngineRequest[],
): Promise<Record<string, number[] | string>> {
  for (const one of requests) engine.add(one);
  const outputs = await stepUntil(engine, () => !engine.hasWork());
  return collect(requests, outputs);
}

export function collect(requests: readonly EngineRequest[], outputs: readonly EngineOutput[]) {
  return Object.fromEntries(
    requests.map(({ id }): [string, number[] | string] => {
      const own = outputs.filter((output) => output.id === id);
      return [id, own.find(({ error }) => error)?.error ?? own.flatMap(({ tokens }) => tokens)];
    }),
  );
}
