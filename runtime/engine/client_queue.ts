/** The outputs of one request between the socket and its reader. */
import type { EngineOutput, TokenLogprob } from "./protocol.ts";

/**
 * Holds at most one output: those that arrive before the reader takes it are merged into it, so a slow reader's cost is
 * bounded by the tokens its request may generate and not by the number of steps.
 */
export class OutputQueue {
  #pending: PendingOutput | undefined;
  #ended = false;
  #error: Error | undefined;
  #wake: (() => void) | undefined;

  push(output: EngineOutput): void {
    this.#pending ??= { id: output.id, tokens: [] };
    append(this.#pending, output);
    this.#wake?.();
  }

  /** No more outputs: the reader gets undefined, and what it has not taken is dropped. */
  end(): void {
    this.#ended = true;
    this.#pending = undefined;
    this.#wake?.();
  }

  /** The reader first gets what has arrived, then the error. */
  fail(error: Error): void {
    this.#error ??= error;
    this.#wake?.();
  }

  /** The next output, waited for; undefined after `end`. One reader at a time. */
  async next(): Promise<EngineOutput | undefined> {
    while (!this.#pending && !this.#ended && !this.#error) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const output = this.#pending;
    this.#pending = undefined;
    if (!output && this.#error) throw this.#error;
    return output;
  }
}

/** An output that still grows. */
interface PendingOutput extends EngineOutput {
  tokens: number[];
  logprobs?: TokenLogprob[];
}

/** In place: copying what is there at every step would cost a reader that is far behind the square of its answer's length. */
function append(
  pending: PendingOutput,
  { tokens, logprobs, finish, error, unavailable, sharedTokens, queueSeconds }: EngineOutput,
): void {
  for (const token of tokens) pending.tokens.push(token);
  if (logprobs) {
    pending.logprobs ??= [];
    for (const logprob of logprobs) pending.logprobs.push(logprob);
  }
  if (sharedTokens !== undefined) pending.sharedTokens = sharedTokens;
  if (queueSeconds !== undefined) pending.queueSeconds = queueSeconds;
  if (finish) pending.finish = finish;
  if (error !== undefined) pending.error = error;
  if (unavailable) pending.unavailable = true;
}
