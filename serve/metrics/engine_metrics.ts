/** The engine's counters in vLLM's names. They begin again at zero when the engine process is restarted. */
import type { EngineStats } from "../../runtime/engine/protocol.ts";
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
  ].join("");
}
