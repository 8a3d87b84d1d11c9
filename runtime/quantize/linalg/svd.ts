/**
 * The largest singular values of a matrix on the device, by subspace iteration from a random start (Halko, Martinsson and Tropp,
 * arXiv 0909.4061, algorithms 4.4 and 5.1). Products run on the device; bases are made orthonormal in float64.
 */
import type { Context, Ref } from "../../../ffi/mod.ts";
import { matmul } from "../../ops/matmul.ts";
import { uniformNumbers } from "../random.ts";
import { orthonormalizeRows } from "./orthonormal.ts";
import { symmetricEigen } from "./symmetric_eigen.ts";

export interface TruncatedSvd {
  /** Left singular vectors as rows: [rank, rows]. */
  readonly u: Float32Array<ArrayBuffer>;
  /** Descending, [rank]. */
  readonly values: Float64Array;
  /** Right singular vectors as rows: [rank, cols]. */
  readonly v: Float32Array<ArrayBuffer>;
}

export interface SvdOptions {
  /** And place: other numbers, another start. */
  readonly seed: readonly number[];
  /** Vectors iterated besides `rank`: what they catch does not blur the last of those wanted. */
  readonly oversampling?: number;
  /** Passes over the matrix and its transpose. */
  readonly iterations?: number;
}

/** How many vectors are iterated. */
export function subspaceSize(rank: number, rows: number, cols: number, oversampling = Math.max(10, rank >> 3)): number {
  return Math.min(rank + oversampling, rows, cols);
}

/** Bytes of device memory that truncatedSvd takes. */
export function truncatedSvdBytes([rows, cols]: readonly [number, number], rank: number): number {
  return subspaceSize(rank, rows, cols) * (rows + cols) * 4;
}

/**
 * @param a float32 [rows, cols] on the device
 * @param rank of the result; above min(rows, cols), the rest of it is zero
 */
export function truncatedSvd(
  context: Context,
  a: Ref,
  [rows, cols]: readonly [number, number],
  rank: number,
  { seed, oversampling, iterations = 4 }: SvdOptions,
): TruncatedSvd {
  const size = subspaceSize(rank, rows, cols, oversampling);
  using left = context.alloc(size * rows * 4);
  using right = context.alloc(size * cols * 4);
  const next = uniformNumbers(...seed);
  const start = Float64Array.from({ length: size * cols }, next);
  orthonormalizeRows(start, size, cols);
  right.upload(Float32Array.from(start));
  let q = new Float64Array();
  let b = new Float64Array();
  for (let pass = 0; pass < iterations; pass++) {
    matmul(context, { a: right.at(0), b: a, c: left.at(0), m: size, n: rows, k: cols, transposeB: true });
    q = Float64Array.from(left.download(new Float32Array(size * rows)));
    orthonormalizeRows(q, size, rows);
    left.upload(Float32Array.from(q));
    matmul(context, { a: left.at(0), b: a, c: right.at(0), m: size, n: cols, k: rows });
    b = Float64Array.from(right.download(new Float32Array(size * cols)));
    if (pass === iterations - 1) break;
    const basis = Float64Array.from(b);
    orthonormalizeRows(basis, size, cols);
    right.upload(Float32Array.from(basis));
  }
  return productSvd(q, b, size, rows, cols, rank);
}

/** The `rank` largest singular values of q^T b, q [size, rows] with orthonormal rows and b [size, cols]. */
export function productSvd(
  q: Float64Array,
  b: Float64Array,
  size: number,
  rows: number,
  cols: number,
  rank: number,
): TruncatedSvd {
  const { values: squares, vectors } = symmetricEigen(rowProducts(b, size, cols), size);
  const values = new Float64Array(rank);
  const u = new Float32Array(rank * rows);
  const v = new Float32Array(rank * cols);
  // Below this part of the largest, a square is rounding error.
  const least = 1e-15 * Math.max(squares[0] ?? 0, 0);
  for (let i = 0; i < Math.min(rank, size) && squares[i]! > least; i++) {
    values[i] = Math.sqrt(squares[i]!);
    const weights = vectors.subarray(i * size, (i + 1) * size);
    u.set(combine(weights, q, rows, 1), i * rows);
    v.set(combine(weights, b, cols, 1 / values[i]!), i * cols);
  }
  return { u, values, v };
}

/** b b^T, [count, count]. */
function rowProducts(b: Float64Array, count: number, size: number): Float64Array {
  const products = new Float64Array(count * count);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = 0;
      for (let k = 0; k < size; k++) sum += b[i * size + k]! * b[j * size + k]!;
      products[i * count + j] = sum;
      products[j * count + i] = sum;
    }
  }
  return products;
}

/** factor * sum over i of weights[i] * row i of x [.., size]. */
function combine(weights: Float64Array, x: Float64Array, size: number, factor: number): Float64Array {
  const sum = new Float64Array(size);
  for (const [i, weight] of weights.entries()) {
    for (let k = 0; k < size; k++) sum[k] = sum[k]! + weight * x[i * size + k]!;
  }
  for (let k = 0; k < size; k++) sum[k] = sum[k]! * factor;
  return sum;
}
