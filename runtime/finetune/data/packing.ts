/**
 * Short examples behind each other in sequences of one length, so that little of a batch is padding. Positions begin anew with each
 * example, and attention reaches back to its first token only: each is computed as if it stood alone.
 */
import type { Example } from "./example.ts";

/** One sequence of a batch; all arrays are [length]. */
export interface PackedSequence {
  readonly ids: Int32Array;
  /** The token that follows in the same example where the loss wants it, or -1. */
  readonly targets: Int32Array;
  /** Place within the own example. */
  readonly positions: Int32Array;
  /** Index of the own example's first token: attention goes from there to the token itself. Padding sees itself alone. */
  readonly rowStart: Int32Array;
  /** Tokens that the loss wants. */
  readonly tokens: number;
}

/**
 * - dense: first-fit decreasing: the longest first, each into the first sequence that has room
 * - in-order: as they come, a sequence ends where the next does not fit
 * - single: one example a sequence
 */
export const PACKINGS = ["dense", "in-order", "single"] as const;
export type PackingOrder = (typeof PACKINGS)[number];

/**
 * Which examples share a sequence: their indices, in order. What comes out depends on lengths and order alone.
 *
 * @throws Error naming an example that is longer than `length`
 */
export function planPacking(examples: readonly Example[], length: number, packing: PackingOrder = "dense"): number[][] {
  for (const { ids, where } of examples) {
    if (ids.length > length) {
      throw new Error(`Cannot pack ${where}: received ${ids.length} tokens, expected at most ${length}`);
    }
  }
  switch (packing) {
    case "single":
      return examples.map((_, i) => [i]);
    case "in-order":
      return nextFit(examples, length);
    case "dense":
      return firstFitDecreasing(examples, length);
  }
}

/**
 * A sequence of `length` out of the examples `members`.
 *
 * @param pad token of the rest; nothing is learned from it
 */
export function packSequence(
  examples: readonly Example[],
  members: readonly number[],
  length: number,
  pad = 0,
): PackedSequence {
  const ids = new Int32Array(length).fill(pad);
  const targets = new Int32Array(length).fill(-1);
  const positions = new Int32Array(length);
  const rowStart = Int32Array.from({ length }, (_, i) => i);
  let start = 0;
  let tokens = 0;
  for (const member of members) {
    const example = examples[member]!;
    const count = example.ids.length;
    ids.set(example.ids, start);
    rowStart.fill(start, start, start + count);
    for (let i = 0; i < count; i++) {
      positions[start + i] = i;
      if (i === 0 || example.wanted[i] === 0) continue;
      targets[start + i - 1] = example.ids[i]!;
      tokens++;
    }
    start += count;
  }
  return { ids, targets, positions, rowStart, tokens };
}

/** All examples in sequences of `length`. */
export function packExamples(examples: readonly Example[], length: number, packing?: PackingOrder): PackedSequence[] {
  return planPacking(examples, length, packing).map((members) => packSequence(examples, members, length));
}

/** Which part of the sequences is not padding. */
export function fillRatio(examples: readonly Example[], plan: readonly (readonly number[])[], length: number): number {
  const held = plan.flat().reduce((sum, member) => sum + examples[member]!.ids.length, 0);
  return held / (plan.length * length);
}

function nextFit(examples: readonly Example[], length: number): number[][] {
  const plan: number[][] = [];
  let room = 0;
  for (const [index, { ids }] of examples.entries()) {
    if (ids.length > room) {
      plan.push([]);
      room = length;
    }
    plan.at(-1)!.push(index);
    room -= ids.length;
  }
  return plan;
}

function firstFitDecreasing(examples: readonly Example[], length: number): number[][] {
  const order = examples.map((_, i) => i).sort((a, b) => examples[b]!.ids.length - examples[a]!.ids.length || a - b);
  const rooms = new Rooms(examples.length, length);
  const plan: number[][] = [];
  for (const index of order) {
    const place = rooms.take(examples[index]!.ids.length);
    plan[place] ??= [];
    plan[place].push(index);
  }
  for (const members of plan) members.sort((a, b) => a - b);
  return plan;
}

/** The room in each of `count` bins, in a tree that holds at each node the most below it: the first fit takes log(count) steps. */
class Rooms {
  readonly #leaves: number;
  /** [2 leaves]: the children of node i are 2i and 2i + 1, bin b is node leaves + b. */
  readonly #most: Float64Array;

  constructor(count: number, room: number) {
    this.#leaves = 2 ** Math.ceil(Math.log2(Math.max(1, count)));
    this.#most = new Float64Array(2 * this.#leaves).fill(room);
  }

  /** The first bin with `size` room, which it then has less. There must be one. */
  take(size: number): number {
    let node = 1;
    while (node < this.#leaves) node = this.#most[2 * node]! >= size ? 2 * node : 2 * node + 1;
    const bin = node - this.#leaves;
    this.#most[node] = this.#most[node]! - size;
    for (node >>= 1; node > 0; node >>= 1) {
      this.#most[node] = Math.max(this.#most[2 * node]!, this.#most[2 * node + 1]!);
    }
    return bin;
  }
}
