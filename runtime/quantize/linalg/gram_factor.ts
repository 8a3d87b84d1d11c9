/** Triangular factors of a damped Gram matrix and of its inverse, from one Cholesky factorisation. */
import type { Context, DeviceBuffer } from "../../../ffi/mod.ts";
import { copyReversed, reverseInPlace } from "./reverse.ts";

/**
 * Factors of H = gram + damping * mean(diagonal) I, both upper triangular with zeros below: H = root root^T, H^-1 = inverse^T
 * inverse.
 */
export interface GramFactor {
  readonly n: number;
  /** float32 [n, n] */
  readonly inverse: DeviceBuffer;
  /** float32 [n, n] */
  readonly root: DeviceBuffer;
  /** Inputs that are zero in all of the calibration data, ascending. Their diagonal element counts as an average one. */
  readonly dead: readonly number[];
  /** What it took: the part of the mean diagonal that was added. */
  readonly damping: number;
}

/** First try after an undamped matrix failed. */
const LEAST_DAMPING = 1e-4;
/** Past this the matrix is no Gram matrix. */
const MOST_DAMPING = 1e3;

/**
 * With P the reversal of order, P H P = M M^T gives root = P M P and inverse = P M^-1 P = root^-1: no inverse of H is ever formed.
 *
 * @param gram float32 [n, n], of which the upper triangle is read; becomes `inverse`
 * @param work as large; becomes `root`
 * @param damping is doubled until no pivot fails
 * @param name of what sees these inputs, for errors
 * @throws where the diagonal is not finite, or no damping helps
 */
export function factorGram(
  context: Context,
  gram: DeviceBuffer,
  work: DeviceBuffer,
  n: number,
  damping: number,
  name: string,
): GramFactor {
  const diagonal = readDiagonal(gram, n, name);
  const dead = [...diagonal.keys()].filter((i) => diagonal[i] === 0);
  const mean = diagonal.reduce((sum, value) => sum + value, 0) / Math.max(1, n - dead.length) || 1;
  const deadColumns = new Set(dead);
  using failedPivot = context.alloc(4);
  for (;;) {
    copyReversed(gram, work, n, (row, i) => {
      const at = n - 1 - i;
      row[at] = row[at]! + mean * (damping + (deadColumns.has(i) ? 1 : 0));
    });
    context.cholesky({ a: work.at(0), failedPivot: failedPivot.at(0), n });
    const [failed] = failedPivot.download(new Int32Array(1));
    if (failed === -1) break;
    if (damping > MOST_DAMPING) {
      const pivot = `pivot ${n - 1 - failed!} of ${n} failed with damping ${damping}`;
      throw new Error(`Cannot factor the Gram matrix of ${name}: ${pivot}`);
    }
    damping = Math.max(LEAST_DAMPING, damping * 2);
  }
  context.triangularInverse({ l: work.at(0), y: gram.at(0), n });
  reverseInPlace(gram, n);
  reverseInPlace(work, n);
  return { n, inverse: gram, root: work, dead, damping };
}

function readDiagonal(matrix: DeviceBuffer, n: number, name: string): Float64Array {
  const element = new Float32Array(1);
  const diagonal = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    const value = matrix.download(element, i * (n + 1) * 4)[0]!;
    if (!(value >= 0 && Number.isFinite(value))) {
      const received = `received ${value} for input ${i}, expected a finite sum of squares`;
      throw new Error(`Cannot factor the Gram matrix of ${name}: ${received}`);
    }
    diagonal[i] = value;
  }
  return diagonal;
}
