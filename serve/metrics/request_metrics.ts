/** What this process measures of the answers it gives, under the names that vLLM gave these metrics. */
import type { TextDelta } from "../../runtime/chat/generate.ts";
import { Histogram, type Labels, simple } from "./exposition.ts";

const FIRST_TOKEN_SECONDS = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40,
];
const TOKEN_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5];
const ANSWER_SECONDS = [0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960];
const TOKENS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000];

type Finish = "stop" | "length" | "abort" | "error";

export class RequestMetrics {
  readonly #firstToken = new Histogram(FIRST_TOKEN_SECONDS);
  readonly #perToken = new Histogram(TOKEN_SECONDS);
  readonly #answer = new Histogram(ANSWER_SECONDS);
  readonly #promptTokens = new Histogram(TOKENS);
  readonly #generatedTokens = new Histogram(TOKENS);
  readonly #finished: Record<Finish, number> = { stop: 0, length: 0, abort: 0, error: 0 };

  /**
   * Passes on the deltas of one answer and measures them. Times are those at which deltas are taken, so that a client that
   * reads slowly shows in them.
   */
  async *measured(
    deltas: AsyncGenerator<TextDelta, void, void>,
    promptTokens: number,
  ): AsyncGenerator<TextDelta, void, void> {
    const started = performance.now();
    let last = started;
    let tokens = 0;
    let finish: Finish = "abort";
    try {
      for await (const delta of deltas) {
        const now = performance.now();
        if (tokens === 0) this.#firstToken.observe((now - last) / 1000);
        // Tokens that came together took their time together.
        else if (delta.tokens > 0) this.#perToken.observe((now - last) / 1000 / delta.tokens, delta.tokens);
        tokens += delta.tokens;
        last = now;
        finish = delta.finish ?? finish;
        yield delta;
      }
    } catch (error) {
      finish = "error";
      throw error;
    } finally {
      this.#finished[finish]++;
      if (finish === "stop" || finish === "length") {
        this.#answer.observe((last - started) / 1000);
        this.#promptTokens.observe(promptTokens);
        this.#generatedTokens.observe(tokens);
      }
    }
  }

  text(labels: Labels): string {
    const finished = Object.entries(this.#finished);
    return [
      this.#firstToken.text("vllm:time_to_first_token_seconds", "Time to the first token of an answer.", labels),
      this.#perToken.text("vllm:inter_token_latency_seconds", "Time between tokens of an answer.", labels),
      this.#answer.text("vllm:e2e_request_latency_seconds", "Time of whole answers.", labels),
      this.#promptTokens.text("vllm:request_prompt_tokens", "Prompt tokens of complete answers.", labels),
      this.#generatedTokens.text("vllm:request_generation_tokens", "Tokens of complete answers.", labels),
      simple(
        "vllm:request_success_total",
        "counter",
        "Answers that ended, by how they did.",
        finished.map(([reason, count]) => [{ ...labels, finished_reason: reason }, count] as const),
      ),
    ].join("");
  }
}
