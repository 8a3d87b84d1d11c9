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
  const body = { ...state, version, served_model_name: served.name };
  if (state.status !== "ready") return { status: 503, body };
  return { status: 200, body: { ...body, stats: await statsInTime(served.engine) } };
}

/** The engine's counters; null if it does not tell in time, so that /health itself always answers. */
async function statsInTime(engine: EngineClient): Promise<EngineStats | null> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), STATS_MS);
  });
  const stats = engine.stats().catch(() => null);
  try {
    return await Promise.race([stats, late]);
  } finally {
    clearTimeout(timer);
  }
}
