/** GET /health, GET /ready and GET /metrics */
import type { Context } from "hono";
import { healthObject, statsInTime } from "../health.ts";
import { cacheConfig, engineMetrics, memoryMetrics } from "../metrics/engine_metrics.ts";
import { CONTENT_TYPE } from "../metrics/exposition.ts";
import { loraRequestsInfo } from "../metrics/lora_metrics.ts";
import type { ServedModel } from "../served_model.ts";
import type { Service } from "../service.ts";

export async function getHealth(c: Context, { served, version }: Service): Promise<Response> {
  const { body, status } = await healthObject(served, version);
  return c.json(body, status);
}

/** 200 only while a request would be answered: what a load balancer asks. */
export function getReady(c: Context, { served, running }: Service): Response {
  const status = running.draining ? "draining" : (served?.status ?? "no_model");
  return c.json({ status }, status === "ready" ? 200 : 503);
}

/** What this process measured always; the engine's counters when it tells them in time. */
export async function getMetrics(c: Context, { served, metrics }: Service): Promise<Response> {
  if (!served) return c.body("", 200, { "content-type": CONTENT_TYPE });
  const text = (await engineText(served)) + metrics.text(labelsOf(served));
  return c.body(text, 200, { "content-type": CONTENT_TYPE });
}

async function engineText(served: ServedModel): Promise<string> {
  const labels = labelsOf(served);
  const { state } = served.engine;
  const stats = await statsInTime(served.engine);
  if (!stats || state.status !== "ready") return "";
  return [
    engineMetrics(stats, labels),
    cacheConfig(stats, labels),
    memoryMetrics(state.model, labels),
    loraRequestsInfo(stats.adapters, adapterName, labels, Date.now() / 1000),
  ].join("");
}

function labelsOf({ name }: ServedModel): Record<string, string> {
  return { model_name: name };
}

/** The engine's key of an adapter is its name and generation: see runtime/adapters/registry.ts. */
function adapterName(key: string): string {
  return key.slice(0, key.lastIndexOf("@"));
}
