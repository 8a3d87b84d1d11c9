/** Random matrices in GPTQ's layout, the same matrices in float64, and the arithmetic of linears in float64. */

import { assert } from "@std/assert";
import { BF16, F16, GPTQ_V1, GPTQ_V2, WEIGHT_AFFINE, WEIGHT_DENSE, type Weight, ZERO_FLOAT } from "../../ffi/mod.ts";
import type { Bench, Random } from "./harness.ts";

export interface AffineShape {
  bits: number;
  group: number;
  /** ZERO_INTEGER or ZERO_FLOAT. */
  zero: number;
  outFeatures: number;
  inFeatures: number;
}

/** `count` streams of `length` values side by side, values[i * count + stream], as little-endian bit streams of 32-bit words. */
export function packStreams(values: ArrayLike<number>, length: number, count: number, bits: number): Int32Array {
  const words = new Int32Array(Math.ceil((length * bits) / 32) * count);
  for (let i = 0; i < length; i++) {
    for (let bit = 0; bit < bits; bit++) {
      const position = i * bits + bit;
      const word = (position >>> 5) * count;
      for (let stream = 0; stream < count; stream++) {
        words[word + stream]! |= ((values[i * count + stream]! >>> bit) & 1) << (position & 31);
      }
    }
  }
  return words;
}

type Numbers = Float16Array | Float64Array | Int32Array;

/** [rows, columns] to [columns, rows]. */
function transpose<T extends Numbers>(values: T, rows: number, columns: number): T {
  const out = values.slice() as T;
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) out[c * rows + r] = values[r * columns + c]!;
  }
  return out;
}

/** A random affine matrix. `q`, `scales` and `zeros` may be changed before it is packed. */
export class AffineMatrix {
  readonly shape: AffineShape;
  readonly groups: number;
  /** [out, in] */
  readonly q: Int32Array;
  /** [out, groups] */
  readonly scales: Float16Array;
  /** [out, groups], integers or float16 minimums. */
  readonly zeros: Float16Array;

  constructor(shape: AffineShape, random: Random) {
    this.shape = shape;
    this.groups = shape.inFeatures / shape.group;
    const limit = 2 ** shape.bits;
    const perGroup = shape.outFeatures * this.groups;
    this.q = Int32Array.from({ length: shape.outFeatures * shape.inFeatures }, () => random.integer(limit));
    this.scales = Float16Array.from(random.normals(perGroup, 0.1));
    this.zeros = Float16Array.from({ length: perGroup }, () =>
      shape.zero === ZERO_FLOAT ? random.normal() : random.integer(limit),
    );
  }

  /** W[out, in] in float64, where all of it is exact. */
  weights(): Float64Array {
    const { outFeatures, inFeatures, group, zero } = this.shape;
    const weights = new Float64Array(outFeatures * inFeatures);
    for (let i = 0; i < weights.length; i++) {
      const g = Math.floor(i / inFeatures) * this.groups + Math.floor((i % inFeatures) / group);
      const [scale, offset] = [this.scales[g]!, this.zeros[g]!];
      weights[i] = zero === ZERO_FLOAT ? scale * this.q[i]! + offset : scale * (this.q[i]! - offset);
    }
    return weights;
  }

  /** The packed matrix in the bench's context. */
  pack(bench: Bench, format = GPTQ_V2): Weight {
    const { shape, groups } = this;
    const { outFeatures, inFeatures, bits } = shape;
    const weightShape = { kind: WEIGHT_AFFINE, dtype: 0, ...shape };
    const weight = { ...weightShape, data: bench.context.alloc(bench.context.packedBytes(weightShape)).at(0) };
    bench.context.weightRepack({
      qweight: bench.put(packStreams(transpose(this.q, outFeatures, inFeatures), inFeatures, outFeatures, bits)),
      zeros: bench.put(
        shape.zero === ZERO_FLOAT ? transpose(this.zeros, outFeatures, groups) : this.#packZeros(format),
      ),
      scales: bench.put(transpose(this.scales, outFeatures, groups)),
      weight,
      format,
      releaseSource: 0,
      table: null,
    });
    return weight;
  }

  #packZeros(format: number): Int32Array {
    const { bits, outFeatures } = this.shape;
    const limit = 2 ** bits;
    const stored = this.zeros.map((zero) => (format === GPTQ_V1 ? (zero + limit - 1) % limit : zero));
    const words = packStreams(stored, outFeatures, this.groups, bits);
    return transpose(words, words.length / this.groups, this.groups);
  }
}

/** A random dense matrix: its bytes as stored, and its values in float64. */
export class DenseMatrix {
  readonly dtype: number;
  readonly outFeatures: number;
  readonly inFeatures: number;
  readonly values: Float64Array;
  readonly #stored: Float32Array | Float16Array | Uint16Array;

  constructor(dtype: number, outFeatures: number, inFeatures: number, random: Random) {
    this.dtype = dtype;
    this.outFeatures = outFeatures;
    this.inFeatures = inFeatures;
    const values = random.normals(outFeatures * inFeatures);
    if (dtype === BF16) {
      const bits = new Uint32Array(values.buffer).map((word) => word & 0xffff0000);
      this.#stored = Uint16Array.from(bits, (word) => word >>> 16);
      this.values = Float64Array.from(new Float32Array(bits.buffer));
    } else {
      this.#stored = dtype === F16 ? Float16Array.from(values) : values;
      this.values = Float64Array.from(this.#stored);
    }
  }

  put(bench: Bench): Weight {
    const { dtype, outFeatures, inFeatures } = this;
    const data = bench.put(this.#stored);
    return { data, kind: WEIGHT_DENSE, dtype, bits: 0, group: 0, zero: 0, outFeatures, inFeatures };
  }
}

/** x as the int8 path sees it: rounded to multiples of max|x| / 127 in every group of every row, then as float64. */
export function quantizedActivations(x: Float32Array, group: number): Float64Array {
  const out = new Float64Array(x.length);
  for (let first = 0; first < x.length; first += group) {
    const values = x.subarray(first, first + group);
    const largest = values.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
    if (largest === 0) continue;
    const scale = Math.fround(largest / 127);
    const inverse = Math.fround(127 / largest);
    values.forEach((value, i) => {
      out[first + i] = roundToEven(Math.fround(value * inverse)) * scale;
    });
  }
  return out;
}

function roundToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** x W^T + bias in float64, and beside every output the sum of its terms' magnitudes, the unit of rounding errors. */
export function multiply(x: ArrayLike<number>, weights: Float64Array, inFeatures: number, bias?: ArrayLike<number>) {
  const rows = x.length / inFeatures;
  const outs = weights.length / inFeatures;
  const y = new Float64Array(rows * outs);
  const magnitudes = new Float64Array(rows * outs);
  for (let i = 0; i < y.length; i++) {
    const [row, out] = [Math.floor(i / outs), i % outs];
    let sum = bias?.[out] ?? 0;
    let magnitude = Math.abs(sum);
    for (let c = 0; c < inFeatures; c++) {
      const term = x[row * inFeatures + c]! * weights[out * inFeatures + c]!;
      sum += term;
      magnitude += Math.abs(term);
    }
    y[i] = sum;
    magnitudes[i] = magnitude;
  }
  return { y, magnitudes };
}

/** Fails unless every output is within `roundings` float32 roundings of the largest partial sum it can have. */
export function assertRounded(actual: Float32Array, expected: ReturnType<typeof multiply>, roundings: number): void {
  expected.y.forEach((value, i) => {
    const bound = roundings * 2 ** -24 * expected.magnitudes[i]! + 1e-30;
    const error = Math.abs(actual[i]! - value);
    assert(error <= bound, `output ${i} is ${actual[i]}, expected ${value} within ${bound}`);
  });
}

/** One linear of `rows` rows; returns the outputs of all parts, one after another. */
export function runLinear(
  bench: Bench,
  x: Float32Array,
  inFeatures: number,
  activations: number,
  parts: readonly { weight: Weight; bias?: ArrayLike<number> }[],
): Float32Array {
  const rows = x.length / inFeatures;
  const counts = parts.map((part) => rows * part.weight.outFeatures);
  const outputs = counts.map((count) => bench.room(count));
  bench.context.linear({
    x: bench.f32(x),
    rows,
    inFeatures,
    activations,
    parts: parts.map(({ weight, bias }, i) => ({ weight, bias: bias ? bench.f32(bias) : null, y: outputs[i]! })),
  });
  return Float32Array.from(outputs.flatMap((y, i) => Array.from(bench.read(y, counts[i]!))));
}
