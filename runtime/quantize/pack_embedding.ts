/** Embedding tables in 8 or 4 bits: round to nearest along the width, which each row is independent of the others in. */
import type { Context } from "../../ffi/mod.ts";
import { minMaxQuantize } from "./affine.ts";
import type { AffineWeights } from "./method.ts";

const SLAB_VALUES = 4 << 20;

/** Groups of a packed table: 64 where they divide the width, else 32. */
export function embeddingGroup(width: number): 32 | 64 {
  if (width % 32 !== 0) {
    throw new Error(`Cannot pack an embedding: received a width of ${width}, expected a multiple of 32 (or 16 bits)`);
  }
  return width % 64 === 0 ? 64 : 32;
}

/**
 * Packs rows of a table; any stretch of rows gives what it has in the whole table.
 * @param table float32 [rows, width]
 */
export function packEmbedding(
  context: Context,
  table: Float32Array,
  [rows, width]: readonly [number, number],
  bits: 8 | 4,
): AffineWeights {
  const group = embeddingGroup(width);
  const groups = width / group;
  const q = new Uint8Array(rows * width);
  const scales = new Float32Array(rows * groups);
  const zeros = new Float32Array(rows * groups);
  const slabRows = Math.min(rows, Math.max(1, Math.floor(SLAB_VALUES / width)));
  using slab = context.alloc(slabRows * width * 4);
  for (let first = 0; first < rows; first += slabRows) {
    const count = Math.min(slabRows, rows - first);
    slab.upload(table.subarray(first * width, (first + count) * width));
    const part = minMaxQuantize(context, slab.at(0), count, width, bits, group);
    q.set(part.q, first * width);
    scales.set(part.scales, first * groups);
    zeros.set(part.zeros, first * groups);
  }
  return { family: "affine", bits, group, q, scales, zero: "integer", zeros };
}
