/** What this process measures of the answers it gives, under the names and with the bounds that vLLM gave these metrics. */
import type { TextDelta } from "../../runtime/chat/generate.ts";
import { Histogram, type Labels, simple } from "./exposition.ts";

// From https://github.com/vllm-project/vllm, vllm/v1/metrics/loggers.py: dashboards compare servers by them.
const FIRST_TOKEN_SECONDS = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
];
const TOKEN_SECONDS = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80];
const ANSWER_SECONDS = [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680];
const TOKENS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000];

type Finish = "stop" | "length" | "abort" | "error";

export class RequestMetrics {
  readonly #firstToken = new Histogram(FIRST_TOKEN_SECONDS);
  readonly #betweenTokens = new Histogram(TOKEN_SECONDS);
  readonly #perToken = new Histogram(TOKEN_SECONDS);
  readonly #answer = new Histogram(ANSWER_SECONDS);
  readonly #queue = new Histogram(ANSWER_SECONDS);
  readonly #prefill = new Histogram(ANSWER_SECONDS);
  readonly #decode = new Histogram(ANSWER_SECONDS);
  readonly #inference = new Histogram(ANSWER_SECONDS);
  readonly #promptTokens = new Histogram(TOKENS);
  readonly #generatedTokens = new Histogram(TOKENS);
  readonly #finished: Record<Finish, number> = { stop: 0, length: 0, abort: 0, error: 0 };
  #restarts = 0;

  /** Counts a death of the engine process. */
  countRestart(): void {
    this.#restarts++;
  }

  /**
   * Passes on the deltas of one answer and measures them. Times are those at which deltas are taken, so that a client that
   * reads slowly shows in them.
   */
  async *measured(
    deltas: AsyncGenerator<TextDelta, void, void>,
    promptTokens: number,
  ): AsyncGenerator<TextDelta, void, void> {
    const started = performance.now();
    let first = started;
    let last = started;
    let queueSeconds = 0;
    let tokens = 0;
    let finish: Finish = "abort";
    try {
      for await (const delta of deltas) {
        const now = performance.now();
        if (tokens === 0) {
          first = now;
          this.#firstToken.observe((now - started) / 1000);
        } else if (delta.tokens > 0) {
          // Tokens that came together took their time together.
          this.#betweenTokens.observe((now - last) / 1000 / delta.tokens, delta.tokens);
        }
        tokens += delta.tokens;
        last = now;
        queueSeconds = delta.queueSeconds ?? queueSeconds;
        finish = delta.finish ?? finish;
        yield delta;
      }
    } catch (error) {
      finish = "error";
      throw error;
    } finally {
      this.#finished[finish]++;
      if (finish === "stop" || finish === "length") {
        this.#complete({ started, first, last }, queueSeconds, promptTokens, tokens);
      }
    }
  }

  /** `times` in milliseconds of one clock. */
  #complete(
    times: { readonly started: number; readonly first: number; readonly last: number },
    queueSeconds: number,
    promptTokens: number,
    tokens: number,
  ): void {
    const [total, decode] = [(times.last - times.started) / 1000, (times.last - times.first) / 1000];
    this.#answer.observe(total);
    this.#queue.observe(queueSeconds);
    this.#prefill.observe(Math.max(0, total - decode - queueSeconds));
    this.#decode.observe(decode);
    this.#inference.observe(Math.max(0, total - queueSeconds));
    if (tokens > 1) this.#perToken.observe(decode / (tokens - 1));
    this.#promptTokens.observe(promptTokens);
    this.#generatedTokens.observe(tokens);
  }

  text(labels: Labels): string {
    const histograms: readonly (readonly [histogram: Histogram, name: string, help: string])[] = [
      [this.#firstToken, "time_to_first_token_seconds", "Time to the first token of an answer."],
      [this.#betweenTokens, "inter_token_latency_seconds", "Time between tokens of an answer."],
      [this.#perToken, "request_time_per_output_token_seconds", "Mean time between tokens, one for each answer."],
      [this.#answer, "e2e_request_latency_seconds", "Time of whole answers."],
      [this.#queue, "request_queue_time_seconds", "Time until the engine begins with an answer."],
      [this.#prefill, "request_prefill_time_seconds", "Time from there to the first token."],
      [this.#decode, "request_decode_time_seconds", "Time from there to the last token."],
      [this.#inference, "request_inference_time_seconds", "Prefill and decode together."],
      [this.#promptTokens, "request_prompt_tokens", "Prompt tokens of complete answers."],
      [this.#generatedTokens, "request_generation_tokens", "Tokens of complete answers."],
    ];
    const finished = Object.entries(this.#finished).map(
      ([reason, count]) => [{ ...labels, finished_reason: reason }, count] as const,
    );
    return [
      ...histograms.map(([histogram, name, help]) => histogram.text(`vllm:${name}`, help, labels)),
      simple("vllm:request_success_total", "counter", "Answers that ended, by how they did.", finished),
      simple("apiq:engine_restarts_total", "counter", "Deaths of the engine process.", [[labels, this.#restarts]]),
    ].join("");
  }
}
