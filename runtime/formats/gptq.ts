/**
 * The integer layout of GPTQ checkpoints, as AutoGPTQ and GPTQModel write it: a little-endian bit stream of `bits`-bit values
 * per column, cut into int32 words. 2, 4 and 8 bits divide a word; 3 bits put 32 values into 3 words.
 *
 *   qweight int32 [in*bits/32, out]               the stream runs along `in`
 *   qzeros  int32 [in/group, ceil(out*bits/32)]   the stream runs along `out`
 *
 * Version 1 stores every zero minus one (modulo 2^bits), version 2 stores it as it is.
 */

export type Bits = 2 | 3 | 4 | 8;
export type GroupSize = 32 | 64 | 128;
export const BITS: readonly Bits[] = [2, 3, 4, 8];
export const GROUP_SIZES: readonly GroupSize[] = [32, 64, 128];

/** Number of int32 words that hold `count` values. */
export function wordsFor(count: number, bits: Bits): number {
  return Math.ceil((count * bits) / 32);
}

/** q [out, in] row-major -> qweight int32 [in*bits/32, out]. `in` is a multiple of 32. */
export function packRows(
  q: ArrayLike<number>,
  outFeatures: number,
  inFeatures: number,
  bits: Bits,
): Int32Array<ArrayBuffer> {
  const packed = new Int32Array(wordsFor(inFeatures, bits) * outFeatures);
  for (let row = 0; row < outFeatures; row++) {
    packRow(q, row * inFeatures, inFeatures, bits, packed, row, outFeatures);
  }
  return packed;
}

/** Packs the `inFeatures` values from `first` on into column `row` of a qweight [in*bits/32, out]. */
export function packRow(
  q: ArrayLike<number>,
  first: number,
  inFeatures: number,
  bits: Bits,
  qweight: Int32Array,
  row: number,
  outFeatures: number,
): void {
  packStream(q, first, inFeatures, bits, qweight, row, outFeatures);
}

/** qweight int32 [in*bits/32, out] -> q [out, in] row-major. */
export function unpackRows(
  qweight: Int32Array,
  outFeatures: number,
  inFeatures: number,
  bits: Bits,
): Uint8Array<ArrayBuffer> {
  const q = new Uint8Array(outFeatures * inFeatures);
  for (let row = 0; row < outFeatures; row++)
    unpackStream(qweight, row, outFeatures, bits, q, row * inFeatures, inFeatures);
  return q;
}

/** zeros [in/group, out] -> qzeros int32 [in/group, ceil(out*bits/32)], version 2 (as they are). */
export function packZeros(
  zeros: ArrayLike<number>,
  groups: number,
  outFeatures: number,
  bits: Bits,
): Int32Array<ArrayBuffer> {
  const words = wordsFor(outFeatures, bits);
  const packed = new Int32Array(groups * words);
  for (let group = 0; group < groups; group++)
    packStream(zeros, group * outFeatures, outFeatures, bits, packed, group * words, 1);
  return packed;
}

/** qzeros int32 [in/group, ceil(out*bits/32)] -> zeros [in/group, out]; version 1 gets its one back. */
export function unpackZeros(
  qzeros: Int32Array,
  groups: number,
  outFeatures: number,
  bits: Bits,
  format: "gptq" | "gptq_v2",
): Uint8Array<ArrayBuffer> {
  const words = wordsFor(outFeatures, bits);
  const zeros = new Uint8Array(groups * outFeatures);
  for (let group = 0; group < groups; group++) {
    unpackStream(qzeros, group * words, 1, bits, zeros, group * outFeatures, outFeatures);
  }
  if (format === "gptq") {
    const mask = 2 ** bits - 1;
    for (let i = 0; i < zeros.length; i++) zeros[i] = (zeros[i]! + 1) & mask;
  }
  return zeros;
}

/** Words of one stream lie `stride` apart, from `target`. */
function packStream(
  values: ArrayLike<number>,
  first: number,
  count: number,
  bits: Bits,
  words: Int32Array,
  target: number,
  stride: number,
): void {
  let pending = 0;
  let filled = 0;
  for (let i = 0; i < count; i++) {
    const value = values[first + i]!;
    pending |= value << filled;
    filled += bits;
    if (filled < 32) continue;
    words[target] = pending;
    target += stride;
    filled -= 32;
    // What of the value did not fit starts the next word.
    pending = filled === 0 ? 0 : value >>> (bits - filled);
  }
  if (filled > 0) words[target] = pending;
}

function unpackStream(
  words: Int32Array,
  source: number,
  stride: number,
  bits: Bits,
  values: Uint8Array,
  first: number,
  count: number,
): void {
  const mask = 2 ** bits - 1;
  for (let i = 0; i < count; i++) {
    const bit = i * bits;
    const shift = bit & 31;
    const at = source + (bit >>> 5) * stride;
    let value = words[at]! >>> shift;
    if (shift + bits > 32) value |= words[at + stride]! << (32 - shift);
    values[first + i] = value & mask;
  }
}
