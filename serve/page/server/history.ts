/** The last minutes of the server's metrics, as what can be drawn: one sample per reading. */
import { type Buckets, buckets, type Metrics, quantile, total } from "../api/metrics.ts";

/** Undefined where the server does not tell, or where there was nothing to measure since the sample before. */
export interface ServerSample {
  /** Milliseconds, of a clock that only goes forward. */
  readonly time: number;
  readonly running: number | undefined;
  readonly waiting: number | undefined;
  /** Used part of the KV cache, 0 to 1. */
  readonly kvCache: number | undefined;
  readonly generatedPerSecond: number | undefined;
  readonly promptPerSecond: number | undefined;
  /** Part of the prompt tokens found in the prefix cache, 0 to 1. */
  readonly prefixHits: number | undefined;
  /** Half, and 95 of 100, of the answers since the sample before began within so many seconds. */
  readonly firstToken50: number | undefined;
  readonly firstToken95: number | undefined;
}

/** Counters and histograms of a reading, to be compared with the next one. */
interface Reading {
  readonly time: number;
  readonly generated: number | undefined;
  readonly prompt: number | undefined;
  readonly queries: number | undefined;
  readonly hits: number | undefined;
  readonly firstToken: Buckets;
}

const FIRST_TOKEN = "vllm:time_to_first_token_seconds";

export class ServerHistory {
  readonly #length: number;
  #samples: readonly ServerSample[] = [];
  #last: Reading | undefined;

  /** Keeps that many samples. */
  constructor(length: number) {
    this.#length = length;
  }

  get samples(): readonly ServerSample[] {
    return this.#samples;
  }

  add(metrics: Metrics, time: number): void {
    const now: Reading = {
      time,
      generated: total(metrics, "vllm:generation_tokens_total"),
      prompt: total(metrics, "vllm:prompt_tokens_total"),
      queries: total(metrics, "vllm:prefix_cache_queries_total"),
      hits: total(metrics, "vllm:prefix_cache_hits_total"),
      firstToken: buckets(metrics, FIRST_TOKEN),
    };
    const before = this.#last;
    const queries = before && increase(before.queries, now.queries);
    const hits = before && increase(before.hits, now.hits);
    const sample: ServerSample = {
      time,
      running: total(metrics, "vllm:num_requests_running"),
      waiting: total(metrics, "vllm:num_requests_waiting"),
      kvCache: total(metrics, "vllm:kv_cache_usage_perc"),
      generatedPerSecond: before && rate(before, now, "generated"),
      promptPerSecond: before && rate(before, now, "prompt"),
      prefixHits: queries && hits !== undefined ? hits / queries : undefined,
      firstToken50: before && quantile(0.5, before.firstToken, now.firstToken),
      firstToken95: before && quantile(0.95, before.firstToken, now.firstToken),
    };
    this.#last = now;
    this.#samples = [...this.#samples, sample].slice(-this.#length);
  }
}

function rate(before: Reading, now: Reading, counter: "generated" | "prompt"): number | undefined {
  const more = increase(before[counter], now[counter]);
  return more === undefined || now.time <= before.time ? undefined : (more * 1000) / (now.time - before.time);
}

/** Undefined when the counter began again, as it does with a new engine. */
function increase(before: number | undefined, now: number | undefined): number | undefined {
  return before === undefined || now === undefined || now < before ? undefined : now - before;
}
