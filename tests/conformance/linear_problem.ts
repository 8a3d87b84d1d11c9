/** Random matrices in GPTQ's layout, the same matrices in float64, and the arithmetic of linears in float64. */

import { type Bench, Random } from "./harness.ts";
import {
  BF16,
  F16,
  F32,
  GPTQ_V1,
  GPTQ_V2,
  type Ref,
  WEIGHT_AFFINE,
  WEIGHT_DENSE,
  type Weight,
  ZERO_FLOAT,
} from "../../ffi/mod.ts";

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

function transpose(values: ArrayLike<number>, rows: number, columns: number): Float64Array {
  const out = new Float64Array(rows * columns);
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
    const storedZeros = this.zeros.map((zero) => (format === GPTQ_V1 ? (zero + 2 ** bits - 1) % 2 ** bits : zero));
    const zeros =
      shape.zero === ZERO_FLOAT
        ? Float16Array.from(transpose(this.zeros, outFeatures, groups))
        : transposeWords(packStreams(transpose(storedZeros, groups, outFeatures), outFeatures, groups, bits), groups, storedZeros);
    bench.context.weightRepack({
      qweight: bench.put(packStreams(transpose(this.q, outFeatures, inFeatures), inFeatures, outFeatures, bits)),
      zeros: bench.put(zeros),
      scales: bench.put(Float16Array.from(transpose(this.scales, outFeatures, groups))),
      weight,
      format,
      releaseSource: 0,
    });
    return weight;
  }
}
