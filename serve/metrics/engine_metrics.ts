/** The engine's counters in vLLM's names. They begin again at zero when the engine process is restarted. */
import type { EngineModelInfo, EngineStats } from "../../runtime/engine/protocol.ts";
import { type Labels, simple } from "./exposition.ts";

export function engineMetrics(stats: EngineStats, labels: Labels): string {
  const gauge = (name: string, help: string, value: number) => simple(name, "gauge", help, [[labels, value]]);
  const counter = (name: string, help: string, value: number) => simple(name, "counter", help, [[labels, value]]);
  const prompt = stats.promptTokens + stats.sharedTokens;
  return [
    gauge("vllm:num_requests_running", "Answers that are being generated.", stats.running),
    gauge("vllm:num_requests_waiting", "Requests that wait to be run.", stats.waiting),
    gauge(
      "vllm:kv_cache_usage_perc",
      "Used part of the KV cache; 1 is all of it.",
      stats.kvBlocksTotal === 0 ? 0 : stats.kvBlocksUsed / stats.kvBlocksTotal,
    ),
    counter("vllm:prompt_tokens_total", "Prompt tokens, computed or found in the prefix cache.", prompt),
    counter("vllm:generation_tokens_total", "Generated tokens.", stats.generatedTokens),
    counter("vllm:prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.", prompt),
    counter("vllm:prefix_cache_hits_total", "Prompt tokens found in the prefix cache.", stats.sharedTokens),
    counter("apiq:engine_steps_total", "Passes over the model.", stats.steps),
    gauge("apiq:adapter_bytes", "Memory that adapters take on the device.", stats.adapters.bytes),
    gauge("apiq:adapter_capacity_bytes", "Memory that adapters may take there.", stats.adapters.capacityBytes),
    gauge("apiq:adapters_resident", "Adapters that are on the device.", stats.adapters.resident),
  ].join("");
}

/** The KV cache's shape, which endpoint pickers read beside its use. */
export function cacheConfig({ kvBlocksTotal, kvBlockSize }: EngineStats, labels: Labels): string {
  const info = { ...labels, block_size: `${kvBlockSize}`, num_gpu_blocks: `${kvBlocksTotal}` };
  return simple("vllm:cache_config_info", "gauge", "Shape of the KV cache.", [[info, 1]]);
}

/** Bytes of the model that do not change while it runs. */
export function memoryMetrics({ memory }: EngineModelInfo, labels: Labels): string {
  const parts = [
    ["weights", memory.weights],
    ["kv_cache", memory.kvCache],
    ["scratch", memory.scratch],
  ] as const;
  const samples = parts.map(([part, bytes]) => [{ ...labels, part }, bytes] as const);
  return simple("apiq:memory_bytes", "gauge", "Memory that the model takes, part by part.", samples);
}
