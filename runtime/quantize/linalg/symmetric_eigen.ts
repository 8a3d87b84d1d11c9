/**
 * Eigenvalues of small dense symmetric matrices by Jacobi's method (Golub and Van Loan, Matrix Computations, section 8.5), in
 * float64.
 */

export interface SymmetricEigen {
  /** Descending, [n]. */
  readonly values: Float64Array;
  /** Eigenvector i is row i, [n, n]; orthonormal. */
  readonly vectors: Float64Array;
}

/** More sweeps than any matrix needs: convergence is quadratic. */
const MAX_SWEEPS = 40;

/** @param matrix [n, n], symmetric; unchanged */
export function symmetricEigen(matrix: Float64Array, n: number): SymmetricEigen {
  const a = Float64Array.from(matrix);
  const v = new Float64Array(n * n);
  for (let i = 0; i < n; i++) v[i * n + i] = 1;
  const size = Math.sqrt(a.reduce((sum, x) => sum + x * x, 0));
  for (let sweep = 0; sweep < MAX_SWEEPS && rotateAll(a, v, n, size * 1e-16) > 0; sweep++);
  const order = Array.from({ length: n }, (_, i) => i).sort((i, j) => a[j * n + j]! - a[i * n + i]! || i - j);
  const vectors = new Float64Array(n * n);
  for (const [to, from] of order.entries()) vectors.set(v.subarray(from * n, (from + 1) * n), to * n);
  return { values: Float64Array.from(order, (i) => a[i * n + i]!), vectors };
}

/** One sweep: every element above the diagonal larger than `negligible` is rotated to zero. Says how many there were. */
function rotateAll(a: Float64Array, v: Float64Array, n: number, negligible: number): number {
  let rotations = 0;
  for (let p = 0; p < n; p++) {
    for (let q = p + 1; q < n; q++) {
      const apq = a[p * n + q]!;
      if (!(Math.abs(apq) > negligible)) continue;
      rotations++;
      const theta = (a[q * n + q]! - a[p * n + p]!) / (2 * apq);
      const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
      const c = 1 / Math.sqrt(t * t + 1);
      const s = t * c;
      rotate(a, p * n, q * n, 1, n, c, s);
      rotate(a, p, q, n, n, c, s);
      rotate(v, p * n, q * n, 1, n, c, s);
      a[p * n + q] = 0;
      a[q * n + p] = 0;
    }
  }
  return rotations;
}

/** (x, y) becomes (c x - s y, s x + c y) for n pairs, which begin at `p` and `q` and lie `stride` apart. */
function rotate(m: Float64Array, p: number, q: number, stride: number, n: number, c: number, s: number): void {
  for (let k = 0, i = p, j = q; k < n; k++, i += stride, j += stride) {
    const x = m[i]!;
    const y = m[j]!;
    m[i] = c * x - s * y;
    m[j] = s * x + c * y;
  }
}
