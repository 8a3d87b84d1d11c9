/** Square matrices with the order of their rows and columns reversed: what turns a lower triangular matrix into an upper one. */
import type { DeviceBuffer } from "../../../ffi/mod.ts";

/** Floats that pass through this process at a time. */
const CHUNK = 1 << 20;

/**
 * to[n - 1 - i, n - 1 - j] = from[i, j] for float32 [n, n] matrices at the beginning of two buffers.
 * @param edit sees row i, reversed, before it is written
 */
export function copyReversed(
  from: DeviceBuffer,
  to: DeviceBuffer,
  n: number,
  edit: (row: Float32Array, i: number) => void = () => {},
): void {
  const most = Math.max(1, Math.floor(CHUNK / n));
  for (let first = 0; first < n; first += most) {
    const rows = Math.min(most, n - first);
    const chunk = from.download(new Float32Array(rows * n), first * n * 4).reverse();
    for (let r = 0; r < rows; r++) edit(chunk.subarray(r * n, (r + 1) * n), first + rows - 1 - r);
    to.upload(chunk, (n - first - rows) * n * 4);
  }
}

/** The same within one buffer. */
export function reverseInPlace(matrix: DeviceBuffer, n: number): void {
  const most = Math.max(1, Math.floor(CHUNK / n));
  for (let first = 0, end = n; first < end; ) {
    // The upper rows change places with as many lower ones; a single row in the middle is its own counterpart.
    const rows = Math.max(1, Math.min(most, Math.floor((end - first) / 2)));
    const upper = matrix.download(new Float32Array(rows * n), first * n * 4).reverse();
    const lower = matrix.download(new Float32Array(rows * n), (end - rows) * n * 4).reverse();
    matrix.upload(upper, (end - rows) * n * 4);
    matrix.upload(lower, first * n * 4);
    first += rows;
    end -= rows;
  }
}
