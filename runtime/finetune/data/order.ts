/** In which order examples are seen, and which are held out: by seed alone, the same on every machine and runtime. */
import { randomWords } from "../../quantize/random.ts";
import type { Example } from "./example.ts";

/** Tell streams of one seed apart (runtime/quantize/random.ts). */
const EPOCH_ORDER = 1;
const VALIDATION = 2;
const CHOICE = 3;

/**
 * The numbers 0 .. count - 1 in random order.
 * @param epoch each has an order of its own
 */
export function epochOrder(count: number, seed: number, epoch: number): Uint32Array {
  return shuffled(count, randomWords(EPOCH_ORDER, seed, epoch));
}

export interface SplitExamples {
  readonly training: readonly Example[];
  readonly validation: readonly Example[];
}

/**
 * Holds out examples for validation, chosen at random; both parts keep the order of the file.
 *
 * @param amount how many: a count, or a fraction of all, rounded, but at least one
 * @throws Error where nothing would be left to train on
 */
export function splitValidation(
  examples: readonly Example[],
  amount: { readonly count: number } | { readonly fraction: number },
  seed: number,
): SplitExamples {
  const total = examples.length;
  const count =
    "count" in amount ? amount.count : amount.fraction === 0 ? 0 : Math.max(1, Math.round(amount.fraction * total));
  if (!Number.isSafeInteger(count) || count < 0 || (count >= total && count > 0)) {
    throw new Error(`Cannot hold out ${count} examples for validation: received ${total} examples, expected more`);
  }
  const held = new Set(shuffled(total, randomWords(VALIDATION, seed)).subarray(0, count));
  return {
    training: examples.filter((_, i) => !held.has(i)),
    validation: examples.filter((_, i) => held.has(i)),
  };
}

/**
 * Some examples, chosen at random; they keep their order.
 *
 * @param amount below 1 a share, rounded, but at least one example; else how many at most
 * @param stream tells choices of one seed apart
 */
export function chooseExamples(
  examples: readonly Example[],
  amount: number,
  seed: number,
  stream: number,
): readonly Example[] {
  const total = examples.length;
  const count = amount < 1 ? Math.max(1, Math.round(amount * total)) : amount;
  if (count >= total) return examples;
  const chosen = new Set(shuffled(total, randomWords(CHOICE, seed, stream)).subarray(0, count));
  return examples.filter((_, i) => chosen.has(i));
}

/** Fisher and Yates' shuffle. */
function shuffled(count: number, next: () => number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const other = below(i + 1, next);
    [order[i], order[other]] = [order[other]!, order[i]!];
  }
  return order;
}

/** An integer from 0 to limit - 1, each as likely: words beyond the last whole multiple of `limit` are drawn again. */
function below(limit: number, next: () => number): number {
  const end = 2 ** 32 - (2 ** 32 % limit);
  for (;;) {
    const word = next() >>> 0;
    if (word < end) return word % limit;
  }
}
