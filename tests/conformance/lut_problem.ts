/** Random matrices of table entries (APIQ_WEIGHT_LUT), packed and in float64. */
import { GPTQ_V2, WEIGHT_LUT, type Weight, type WeightRepackArgs } from "../../ffi/mod.ts";
import { packRows } from "../../runtime/formats/gptq.ts";
import type { Bench, Random } from "./harness.ts";

export interface LutShape {
  bits: 2 | 3 | 4;
  group: number;
  outFeatures: number;
  inFeatures: number;
}

/** A random matrix of table entries, and the same in float64, where scale * table[q] is exact. */
export class LutMatrix {
  readonly shape: LutShape;
  readonly q: Uint8Array;
  /** [out, in/group] */
  readonly scales: Float16Array;
  readonly table: Float32Array;

  constructor(shape: LutShape, random: Random) {
    const { bits, group, outFeatures, inFeatures } = shape;
    this.shape = shape;
    this.q = Uint8Array.from({ length: outFeatures * inFeatures }, () => random.integer(2 ** bits));
    this.scales = Float16Array.from(random.normals((outFeatures * inFeatures) / group, 0.1));
    this.table = random.normals(2 ** bits);
  }

  weights(): Float64Array {
    return Float64Array.from(this.q, (q, i) => this.scales[Math.floor(i / this.shape.group)]! * this.table[q]!);
  }

  /** What weightRepack reads; the scales lie [in/group, out]. */
  repackArgs(bench: Bench): WeightRepackArgs {
    const { bits, group, outFeatures, inFeatures } = this.shape;
    const groups = inFeatures / group;
    const scales = Float16Array.from(this.scales, (_, i) => {
      return this.scales[(i % outFeatures) * groups + Math.floor(i / outFeatures)]!;
    });
    const shape = { kind: WEIGHT_LUT, dtype: 0, zero: 0, bits, group, outFeatures, inFeatures };
    return {
      qweight: bench.put(packRows(this.q, outFeatures, inFeatures, bits)),
      zeros: null,
      scales: bench.put(scales),
      weight: { ...shape, data: bench.context.alloc(bench.context.packedBytes(shape)).at(0) },
      format: GPTQ_V2,
      releaseSource: 1,
      table: bench.f32(this.table),
    };
  }

  pack(bench: Bench): Weight {
    const args = this.repackArgs(bench);
    bench.context.weightRepack(args);
    return args.weight;
  }
}
