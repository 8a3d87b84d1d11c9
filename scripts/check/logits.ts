/** Comparing two sets of logits. */

export interface LogitDifference {
  /** Largest absolute difference; infinite where one is no finite number. */
  readonly largest: number;
  readonly rows: number;
  /** Rows whose largest logit is of the same token. */
  readonly sameTop: number;
}

/**
 * @param logits [rows, vocabulary]
 * @param expected as many
 */
export function compareLogits(logits: Float32Array, expected: Float32Array, vocabulary: number): LogitDifference {
  if (logits.length !== expected.length || logits.length % vocabulary !== 0) {
    throw new Error(
      `Cannot compare logits: received ${logits.length} and ${expected.length}, expected equal multiples of ${vocabulary}`,
    );
  }
  const rows = logits.length / vocabulary;
  let largest = 0;
  let sameTop = 0;
  for (let row = 0; row < rows; row++) {
    const ours = logits.subarray(row * vocabulary, (row + 1) * vocabulary);
    const theirs = expected.subarray(row * vocabulary, (row + 1) * vocabulary);
    for (let i = 0; i < vocabulary; i++) {
      const difference = Math.abs(ours[i]! - theirs[i]!);
      largest = Number.isFinite(difference) ? Math.max(largest, difference) : Number.POSITIVE_INFINITY;
    }
    if (top(ours) === top(theirs)) sameTop++;
  }
  return { largest, rows, sameTop };
}

function top(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}

/** Token ids that are the same on every machine, spread over the vocabulary. */
export function tokenIds(count: number, vocabulary: number): number[] {
  let state = 1;
  return Array.from({ length: count }, () => {
    // The "minimal standard" generator of Park and Miller.
    state = (state * 48271) % 0x7fffffff;
    return state % vocabulary;
  });
}
