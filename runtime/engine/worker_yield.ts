/** How the engine's loop lets sockets be read between two steps. */
import process from "node:process";

/**
 * Bun reads sockets in every turn of its event loop. Deno runs on tokio, which looks at sockets only when nothing else is ready
 * or after 61 turns (tokio's `event_interval`), and a loop like the engine's always has something ready: with one turn per
 * step, messages waited for seconds. A timer would do, but costs a millisecond or two; 64 turns cost about 0.3 ms.
 */
const TURNS = process.versions.deno === undefined ? 1 : 64;
/** Steps of a small model are shorter than this: then not every one is followed by all turns. */
const LOOK_EVERY_MS = 5;

export class EventLoopYield {
  #lookedAt = 0;

  /** Resolves after the event loop has had its turns; messages that have arrived by then have been delivered. */
  async pause(): Promise<void> {
    const isDue = performance.now() - this.#lookedAt >= LOOK_EVERY_MS;
    await turns(isDue ? TURNS : 1);
    if (isDue) this.#lookedAt = performance.now();
  }
}

function turns(count: number): Promise<void> {
  return new Promise((resolve) => {
    let left = count;
    const turn = () => {
      left--;
      if (left === 0) resolve();
      else setImmediate(turn);
    };
    setImmediate(turn);
  });
}
