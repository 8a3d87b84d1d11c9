/**
 * vllm:lora_requests_info as the Gateway API Inference Extension's endpoint picker reads it (its model server protocol): one
 * sample whose labels name adapters, separated by commas, and whose value is the time, so that the newest sample can be told.
 */
import type { AdapterStats } from "../../runtime/engine/protocol.ts";
import { type Labels, simple } from "./exposition.ts";

/**
 * @param nameOf the name that requests use for an adapter of the engine
 * @param seconds Unix time
 */
export function loraRequestsInfo(
  { most, running, waiting }: AdapterStats,
  nameOf: (key: string) => string,
  labels: Labels,
  seconds: number,
): string {
  const names = (keys: readonly string[]) => [...new Set(keys.map(nameOf))].sort().join(",");
  const info = {
    ...labels,
    max_lora: `${most}`,
    running_lora_adapters: names(running),
    waiting_lora_adapters: names(waiting),
  };
  return simple("vllm:lora_requests_info", "gauge", "Adapters that requests run with and wait for.", [[info, seconds]]);
}
