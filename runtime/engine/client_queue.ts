/** The outputs of one request between the socket and its reader. */
import type { EngineOutput } from "./protocol.ts";

/**
 * Holds at most one output: those that arrive before the reader takes it are merged into it, so a slow reader's cost is
 * bounded by the tokens its request may generate and not by the number of steps.
 */
export class OutputQueue {
  #pending: EngineOutput | undefined;
  #ended = false;
  #error: Error | undefined;
  #wake: (() => void) | undefined;

  push(output: EngineOutput): void {
    this.#pending = this.#pending ? merge(this.#pending, output) : output;
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

function merge(first: EngineOutput, second: EngineOutput): EngineOutput {
  const merged: EngineOutput = { ...first, ...second, tokens: [...first.tokens, ...second.tokens] };
  if (first.logprobs || second.logprobs) merged.logprobs = [...(first.logprobs ?? []), ...(second.logprobs ?? [])];
  return merged;
}
