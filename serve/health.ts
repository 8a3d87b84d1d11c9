/** What GET /health tells: whether a request would be answered now, and if not, why. */
import type { EngineClient } from "../runtime/engine/client.ts";
import type { EngineStats } from "../runtime/engine/protocol.ts";
import { noModel } from "./errors.ts";
import type { ServedModel } from "./served_model.ts";

/** An engine answers between two steps, which take at most a quarter of a second. */
const STATS_MS = 1000;

/**
 * Status 200 when the server does what it was started for (`ready`, or `no_model` if it was given none), 503 while a request
 * would be refused (`loading`, `restarting`, `failed`).
 */
export async function healthObject(
  served: ServedModel | undefined,
  version: string,
): Promise<{ status: 200 | 503; body: object }> {
  if (!served) return { status: 200, body: { status: "no_model", version, message: noModel().message } };
  const { state } = served.engine;
  const about = { status: state.status, version, model: served.name };
  switch (state.status) {
    case "ready": {
      const { device, isa, threads, contextLength, fingerprint, memory } = state.model;
      const engine = { device, isa, threads, context_length: contextLength, fingerprint };
      const bytes = { weights: memory.weights, lora: memory.lora, kv_cache: memory.kvCache, scratch: memory.scratch };
      return { status: 200, body: { ...about, engine, bytes, stats: statsObject(await statsInTime(served.engine)) } };
    }
    case "loading":
      return { status: 503, body: { ...about, stage: state.stage, done: state.done, total: state.total } };
    case "restarting":
      return { status: 503, body: { ...about, error: state.error, crashes: state.crashes } };
    case "failed":
      return { status: 503, body: { ...about, error: state.error } };
    case "closed":
      return { status: 503, body: about };
  }
}

function statsObject(stats: EngineStats | null): object | null {
  return (
    stats && {
      running: stats.running,
      waiting: stats.waiting,
      kv_blocks_used: stats.kvBlocksUsed,
      kv_blocks_total: stats.kvBlocksTotal,
      prompt_tokens: stats.promptTokens,
      generated_tokens: stats.generatedTokens,
      shared_tokens: stats.sharedTokens,
      steps: stats.steps,
    }
  );
}

/** The engine's counters; null if it does not tell in time, so that the caller always has an answer. */
export async function statsInTime(engine: EngineClient): Promise<EngineStats | null> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), STATS_MS);
  });
  try {
    return await Promise.race([engine.stats().catch(() => null), late]);
  } finally {
    clearTimeout(timer);
  }
}
