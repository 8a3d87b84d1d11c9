/**
 * FineQuant: groups as large as a matrix allows. Each set of linears that share an input begins with groups of
 * `settings.group`, halved while the rounding error of one of its matrices is above a bound, down to 32. Linears that share an
 * input share the group, too, for the kernels prepare the input once per group. No data, no LoRA.
 */
import type { Context } from "../../../ffi/mod.ts";
import type { Linear } from "../../models/weights.ts";
import { dequantizeAffine, minMaxBytes, minMaxQuantize } from "../affine.ts";
import { bitsOf } from "../bits_for.ts";
import { readDense } from "../dense.ts";
import { linearGroups } from "../gram.ts";
import { largestLinear } from "../linear_shapes.ts";
import type { AffineWeights, BlockJob, MethodSettings, QuantizationMethod, QuantizedLinear } from "../method.ts";

const LEAST_GROUP = 32;

/**
 * Largest mean |W - Q| over mean |W|, times 2^bits - 1. Normally distributed weights have 1.63 with groups of 128, 1.47 with 64
 * and 1.30 with 32, at any width: their matrices get 64, those with heavy tails 32, those with none stay at 128. Means of
 * magnitudes, because a few large weights would hide in sums of squares what they do to all others.
 */
export const ERROR_BOUND = 1.55;

export const fineMethod: QuantizationMethod = {
  name: "fine",
  summary: "round to nearest with a group size chosen per matrix by its error, no data",
  source: "arXiv 2308.09723",
  needsCalibration: false,
  uses: ["bits", "bitsFor", "group"],
  workingBytes: (config) => minMaxBytes(largestLinear(config), LEAST_GROUP),
  async quantizeBlock(job) {
    const { block, kept, report } = job;
    const result = new Map<string, QuantizedLinear>();
    const groups = linearGroups(block).map((group) => group.filter((linear) => !kept.has(linear)));
    for (const [step, linears] of groups.entries()) {
      if (linears.length === 0) continue;
      const part = linears.map(({ name }) => name).join(", ");
      await report({ part, epoch: 1, epochs: 1, step, steps: groups.length, loss: null });
      const quantized = quantizeFine(job, linears);
      for (const [i, weights] of quantized.entries()) result.set(linears[i].name, { weights, lora: null });
    }
    return result;
  },
};

function quantizeFine(job: BlockJob, linears: readonly Linear[]): AffineWeights[] {
  for (let { group } = job.settings; ; group = group === 128 ? 64 : LEAST_GROUP) {
    if (group > LEAST_GROUP && linears[0].weight.inFeatures % group !== 0) continue;
    const quantized = linears.map((linear) => roundToNearest(job.context, linear, bitsOf(job, linear), group));
    const good = quantized.every(
      (weights, i) => relativeError(linears[i], weights) * (2 ** weights.bits - 1) <= ERROR_BOUND,
    );
    if (good || group === LEAST_GROUP) return quantized;
  }
}

function roundToNearest(
  context: Context,
  { weight }: Linear,
  bits: MethodSettings["bits"],
  group: MethodSettings["group"],
): AffineWeights {
  const { data, outFeatures, inFeatures } = weight;
  const { q, scales, zeros } = minMaxQuantize(context, data!, outFeatures, inFeatures, bits, group);
  return { family: "affine", bits, group, q, scales, zero: "integer", zeros };
}

/** mean |W - Q| / mean |W| */
export function relativeError(linear: Linear, quantized: AffineWeights): number {
  const original = readDense(linear);
  const values = dequantizeAffine(quantized);
  let error = 0;
  let size = 0;
  for (let i = 0; i < original.length; i++) {
    error += Math.abs(original[i]! - values[i]!);
    size += Math.abs(original[i]!);
  }
  return size === 0 ? 0 : error / size;
}
