/** Orthonormal bases in float64. */

/** A row with less than this part of its length outside the rows before it counts as one of their combinations. */
const DEPENDENT = 1e-12;

/**
 * Makes the rows of x [count, size] orthonormal in place, in order (modified Gram-Schmidt). Rows that depend on those before them
 * become zero.
 */
export function orthonormalizeRows(x: Float64Array, count: number, size: number): void {
  for (let i = 0; i < count; i++) {
    const row = i * size;
    const length = Math.sqrt(dot(x, row, row, size));
    for (let j = 0; j < i; j++) subtract(x, row, j * size, dot(x, row, j * size, size), size);
    const rest = Math.sqrt(dot(x, row, row, size));
    const factor = rest > DEPENDENT * length ? 1 / rest : 0;
    for (let k = row; k < row + size; k++) x[k] = x[k]! * factor;
  }
}

/** The product of the rows that begin at `a` and `b`, in four partial sums. */
function dot(x: Float64Array, a: number, b: number, size: number): number {
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let k = 0;
  for (; k + 4 <= size; k += 4) {
    s0 += x[a + k]! * x[b + k]!;
    s1 += x[a + k + 1]! * x[b + k + 1]!;
    s2 += x[a + k + 2]! * x[b + k + 2]!;
    s3 += x[a + k + 3]! * x[b + k + 3]!;
  }
  for (; k < size; k++) s0 += x[a + k]! * x[b + k]!;
  return s0 + s1 + (s2 + s3);
}

function subtract(x: Float64Array, to: number, from: number, factor: number, size: number): void {
  for (let k = 0; k < size; k++) x[to + k] = x[to + k]! - factor * x[from + k]!;
}
