/**
 * Continuous batching: every step takes one row of each sequence that is decoding, then fills up with rows of prompts, in order
 * of arrival. When the cache is full the youngest sequence goes back to waiting and is computed again later; its tokens come out
 * the same, because nothing in the arithmetic depends on how rows are grouped.
 */
import type { BlockManager } from "./block_manager.ts";
import type { Sequence } from "./sequence.ts";

/** `count` tokens of a sequence, from `sequence.computed` on, go through the model in this step. */
export interface ScheduledRows {
  readonly sequence: Sequence;
  readonly count: number;
}

export class Scheduler {
  readonly #blocks: BlockManager;
  readonly #freeSeats: number[];
  /** In order of admission. */
  readonly #running: Sequence[] = [];
  readonly #waiting: Sequence[] = [];
  #sharedTokens = 0;

  constructor(blocks: BlockManager, maxSequences: number) {
    this.#blocks = blocks;
    this.#freeSeats = Array.from({ length: maxSequences }, (_, i) => maxSequences - 1 - i);
  }

  get running(): number {
    return this.#running.length;
  }

  /** Running sequences whose prompt is computed: someone is watching their tokens come. */
  get decoding(): number {
    return this.#running.reduce((count, { pending }) => count + (pending === 1 ? 1 : 0), 0);
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Tokens that did not have to be computed because the cache held them. */
  get sharedTokens(): number {
    return this.#sharedTokens;
  }

  add(sequence: Sequence): void {
    this.#waiting.push(sequence);
  }

  /** Takes a sequence out, wherever it is, and frees what it holds. */
  remove(sequence: Sequence): void {
    const waiting = this.#waiting.indexOf(sequence);
    if (waiting >= 0) this.#waiting.splice(waiting, 1);
    else this.#release(sequence);
  }

  /**
   * Chooses the rows of the next step and makes room for them in the cache.
   * @param prefillRows how many rows may be spent on prompts in this step
   */
  schedule(prefillRows: number): ScheduledRows[] {
    const rows: ScheduledRows[] = [];
    // Oldest first: only younger ones, not scheduled yet, can lose their place to a decoding sequence.
    for (const sequence of [...this.#running]) {
      if (sequence.pending === 1 && this.#makeRoom(sequence, sequence.tokens.length)) rows.push({ sequence, count: 1 });
    }
    let budget = prefillRows;
    for (const sequence of [...this.#running]) {
      if (sequence.seat < 0 || sequence.pending === 1 || budget === 0) continue;
      // With nothing else to run, half-computed prompts would wait for each other's blocks for ever.
      if (rows.length === 0) this.#makeRoom(sequence, sequence.computed + Math.min(sequence.pending, budget));
      budget -= this.#takePrompt(sequence, budget, rows);
    }
    while (budget > 0 && this.#waiting.length > 0 && this.#freeSeats.length > 0) {
      const sequence = this.#waiting[0];
      sequence.computed = this.#blocks.share(sequence, sequence.root, sequence.tokens);
      const taken = this.#takePrompt(sequence, budget, rows);
      if (taken === 0) {
        this.#blocks.release(sequence);
        sequence.computed = 0;
        break;
      }
      this.#waiting.shift();
      this.#sharedTokens += sequence.computed;
      sequence.seat = this.#freeSeats.pop() as number;
      sequence.admit(sequence.computed);
      this.#running.push(sequence);
      budget -= taken;
    }
    return rows;
  }

  /** Schedules up to `budget` pending tokens if the cache has room without preempting anyone. */
  #takePrompt(sequence: Sequence, budget: number, rows: ScheduledRows[]): number {
    const count = Math.min(sequence.pending, budget);
    if (!this.#blocks.grow(sequence, sequence.computed + count)) return 0;
    rows.push({ sequence, count });
    return count;
  }

  /** Finds blocks for a decoding sequence, if need be by sending the youngest sequences back to wait. */
  #makeRoom(sequence: Sequence, tokens: number): boolean {
    if (sequence.seat < 0) return false;
    while (!this.#blocks.grow(sequence, tokens)) {
      const youngest = this.#running[this.#running.length - 1];
      this.#release(youngest);
      youngest.computed = 0;
      this.#waiting.unshift(youngest);
      if (youngest === sequence) return false;
    }
    return true;
  }

  /** Notes that the scheduled rows are in the cache now. */
  computed(rows: readonly ScheduledRows[]): void {
    for (const { sequence, count } of rows) {
      sequence.computed += count;
      this.#blocks.seal(sequence, sequence.root, sequence.tokens, sequence.computed);
    }
  }

  #release(sequence: Sequence): void {
    const at = this.#running.indexOf(sequence);
    if (at < 0) return;
    this.#running.splice(at, 1);
    this.#freeSeats.push(sequence.seat);
    sequence.seat = -1;
    this.#blocks.release(sequence);
  }
}
