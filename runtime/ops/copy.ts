/** Copies on the device. */
import type { Context, Ref } from "../../ffi/mod.ts";

/** `count` float32 elements of `from` to `to`, which do not overlap; recorded and ordered like any op. */
export function copyTensor(context: Context, from: Ref, to: Ref, count: number): void {
  // The column sums of a matrix with one row.
  context.dotColumns({ a: from, b: null, y: to, rows: 1, cols: count, accumulate: 0 });
}
