/** GET /health, GET /ready and GET /metrics */
import type { Context } from "hono";
import { healthObject, statsInTime } from "../health.ts";
import { engineMetrics } from "../metrics/engine_metrics.ts";
import { CONTENT_TYPE } from "../metrics/exposition.ts";
import type { Service } from "../service.ts";

export async function getHealth(c: Context, { served, version }: Service): Promise<Response> {
  const { body, status } = await healthObject(served, version);
  return c.json(body, status);
}

/** 200 only while a request would be answered: what a load balancer asks. */
export function getReady(c: Context, { served }: Service): Response {
  const status = served?.engine.state.status ?? "no_model";
  return c.json({ status }, status === "ready" ? 200 : 503);
}

/** What this process measured always; the engine's counters when it tells them in time. */
export async function getMetrics(c: Context, { served, metrics }: Service): Promise<Response> {
  if (!served) return c.body("", 200, { "content-type": CONTENT_TYPE });
  const labels = { model_name: served.name };
  const stats = await statsInTime(served.engine);
  const text = (stats ? engineMetrics(stats, labels) : "") + metrics.text(labels);
  return c.body(text, 200, { "content-type": CONTENT_TYPE });
}
