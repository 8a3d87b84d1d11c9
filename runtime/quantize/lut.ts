/**
 * The lut storage family: w = scale * table[q], with groups of weights along `in` that share a scale (QLoRA's blockwise
 * quantization, arXiv 2305.14314, cut at rows). Scales are absolute maxima over the table's largest magnitude, as float16; double
 * quantization stores them in 8 bits.
 */
import { type DoubleScales, decodeScales, SCALE_BLOCK } from "../formats/double_scales.ts";
import { floatsToHalves, halvesToFloats } from "../formats/floats.ts";
import type { LutWeights } from "./method.ts";

export { decodeScales } from "../formats/double_scales.ts";
export { nfTable } from "./normal_float.ts";

/**
 * Quantizes values [out, in] to the nearest entries of `table`; on a tie the smaller entry wins.
 * @param table any 2^bits different finite numbers in any order, such as nfTable(bits)
 * @param doubleQuantization stores the scales in 8 bits; the codes are then nearest under the scales that will be read back
 * @throws for shapes that do not fit, and for values whose scale does not fit float16 (65504)
 */
export function quantizeLut(
  values: Float32Array,
  [outFeatures, inFeatures]: readonly [number, number],
  group: LutWeights["group"],
  table: Float32Array,
  doubleQuantization = false,
): LutWeights {
  const bits = tableBits(table);
  checkShape(values, outFeatures, inFeatures, group);
  const exact = groupScales(values, group, table);
  const double = doubleQuantization ? quantizeScales(exact) : null;
  const scales = roundToHalf(double === null ? exact : decodeScales(double));
  return { family: "lut", bits, group, q: nearestEntries(values, scales, group, table), table, scales, double };
}

/** float32 [out, in] = float32(scale * table[q]), the values that the kernels compute with. */
export function dequantizeLut(weights: LutWeights): Float32Array<ArrayBuffer> {
  const { q, scales, table, group } = weights;
  const values = new Float32Array(q.length);
  for (let g = 0, i = 0; i < q.length; g++) {
    const scale = scales[g]!;
    for (const end = i + group; i < end; i++) values[i] = scale * table[q[i]!]!;
  }
  return values;
}

/**
 * QLoRA's double quantization: the mean of all scales is taken off, and what is left is quantized to 8 bits in blocks of 256.
 * Codes are linear here, where bitsandbytes has an 8-bit float: what is left is symmetric around zero and not heavy-tailed.
 */
export function quantizeScales(scales: Float32Array): DoubleScales {
  let sum = 0;
  for (const scale of scales) sum += scale;
  const offset = Math.fround(sum / scales.length);
  const codes = new Uint8Array(scales.length);
  const absmax = new Float32Array(Math.ceil(scales.length / SCALE_BLOCK));
  for (let block = 0; block < absmax.length; block++) {
    const end = Math.min(scales.length, (block + 1) * SCALE_BLOCK);
    let largest = 0;
    for (let i = block * SCALE_BLOCK; i < end; i++) largest = Math.max(largest, Math.abs(scales[i]! - offset));
    absmax[block] = largest;
    const step = absmax[block]! / 127;
    for (let i = block * SCALE_BLOCK; i < end; i++) {
      codes[i] = step === 0 ? 128 : 128 + Math.max(-127, Math.min(127, Math.round((scales[i]! - offset) / step)));
    }
  }
  return { codes, absmax, offset };
}

/** Values of float32 as float16 would hold them. */
export function roundToHalf(values: Float32Array): Float32Array<ArrayBuffer> {
  return halvesToFloats(floatsToHalves(values));
}

function tableBits(table: Float32Array): LutWeights["bits"] {
  const bits = ([2, 3, 4] as const).find((bits) => table.length === 2 ** bits);
  if (bits === undefined) throw new Error(`Cannot quantize: received a table of ${table.length}, expected 4, 8 or 16`);
  const bad = table.find((entry) => !Number.isFinite(entry));
  if (bad !== undefined) throw new Error(`Cannot quantize: received ${bad} in a table, expected finite numbers`);
  if (table.every((entry) => entry === 0)) throw new Error("Cannot quantize: received a table of zeros");
  return bits;
}

function checkShape(values: Float32Array, outFeatures: number, inFeatures: number, group: number): void {
  if (values.length !== outFeatures * inFeatures) {
    throw new Error(`Cannot quantize: received ${values.length} values, expected ${outFeatures} x ${inFeatures}`);
  }
  if (inFeatures % group !== 0) {
    throw new Error(`Cannot quantize: received rows of ${inFeatures}, expected a multiple of the group, ${group}`);
  }
}

/** The largest magnitude of each group over the table's. */
function groupScales(values: Float32Array, group: number, table: Float32Array): Float32Array {
  const reach = table.reduce((largest, entry) => Math.max(largest, Math.abs(entry)), 0);
  const scales = new Float32Array(values.length / group);
  for (let g = 0, i = 0; g < scales.length; g++) {
    let largest = 0;
    for (const end = i + group; i < end; i++) {
      const magnitude = Math.abs(values[i]!);
      if (!(magnitude <= largest)) largest = magnitude;
    }
    // Not <=, so that a NaN is refused too.
    if (!(largest / reach < 65520)) {
      const where = `in group ${g} of ${group} values`;
      throw new Error(`Cannot quantize: received ${largest} ${where}, expected a scale that float16 can hold`);
    }
    scales[g] = largest / reach;
  }
  return scales;
}

function nearestEntries(values: Float32Array, scales: Float32Array, group: number, table: Float32Array): Uint8Array {
  const order = Uint8Array.from(table.keys()).sort((a, b) => table[a]! - table[b]!);
  // Entry order[i] is nearest between borders[i - 1] and borders[i].
  const borders = Float64Array.from(
    { length: table.length - 1 },
    (_, i) => (table[order[i]!]! + table[order[i + 1]!]!) / 2,
  );
  const q = new Uint8Array(values.length);
  const zero = nearest(0, order, borders);
  for (let g = 0, i = 0; g < scales.length; g++) {
    const scale = scales[g]!;
    if (scale === 0) {
      q.fill(zero, i, i + group);
      i += group;
      continue;
    }
    for (const end = i + group; i < end; i++) q[i] = nearest(values[i]! / scale, order, borders);
  }
  return q;
}

function nearest(value: number, order: Uint8Array, borders: Float64Array): number {
  let low = 0;
  for (let width = (borders.length + 1) / 2; width >= 1; width /= 2) {
    if (value > borders[low + width - 1]!) low += width;
  }
  return order[low]!;
}
