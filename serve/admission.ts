/** How many answers may be in the making before others are turned away. */
import { queueFull } from "./errors.ts";

/**
 * Counts what was handed to the engine and has not ended. The engine itself would queue without end; a client is better told
 * to come back than kept waiting behind thousands.
 */
export class Admission {
  readonly #maxQueue: number;
  #inFlight = 0;

  /** `maxQueue`: how many answers may wait beyond those the engine runs at a time. */
  constructor(maxQueue: number) {
    this.#maxQueue = maxQueue;
  }

  /** Throws an ApiError (429) when the queue is full. `maxSequences`: how many answers the engine runs at a time. */
  check(maxSequences: number): void {
    const waiting = this.#inFlight - maxSequences;
    if (waiting >= this.#maxQueue) throw queueFull(waiting, this.#maxQueue);
  }

  /** As `check`, and notes `count` more until the function it returns is called; that does nothing the second time. */
  enter(count: number, maxSequences: number): () => void {
    this.check(maxSequences);
    this.#inFlight += count;
    let held = count;
    return () => {
      this.#inFlight -= held;
      held = 0;
    };
  }
}
