/**
 * CLoQ: a GPTQ base, and the LoRA that makes up for most of its error on the calibration data, in closed form. With H = root
 * root^T the error of the layer's output is |root^T (W - Q - B A)^T|; the best B A of a rank comes from the singular value
 * decomposition of root^T (W - Q)^T = U S V^T: B = V and A = S U^T root^-1. GPTQ's factor is root^-1 already.
 *
 * Begun from another method's result, the LoRA is made over that one's weights instead.
 */
import type { Context, DeviceBuffer } from "../../../ffi/mod.ts";
import type { Linear } from "../../models/weights.ts";
import { matmul } from "../../ops/matmul.ts";
import { bitsOf } from "../bits_for.ts";
import { dequantizeStored } from "../dequantize.ts";
import type { GramFactor } from "../linalg/gram_factor.ts";
import { truncatedSvd, truncatedSvdBytes } from "../linalg/svd.ts";
import { balancedLora } from "../lora_factors.ts";
import type { BlockJob, LoraMatrices, QuantizationMethod, StoredWeights } from "../method.ts";
import { liveWeights, optqBytes, optqQuantize, walkBytes, walkLinears } from "../optq.ts";

export const cloqMethod: QuantizationMethod = {
  name: "cloq",
  summary: "GPTQ, and LoRA in closed form from the same calibration data",
  source: "arXiv 2501.18475",
  needsCalibration: true,
  uses: ["bits", "bitsFor", "group", "rank", "damping", "init"],
  workingBytes: (config, settings, length) =>
    walkBytes(config, settings, length, (out, into) => {
      const lora = settings.rank === 0 ? 0 : closedFormBytes(out, into, settings.rank);
      return 4 * out * into + Math.max(lora, optqBytes(out, into, settings.group));
    }),
  quantizeBlock(job) {
    const { context, settings, layer } = job;
    let index = 0;
    return walkLinears(job, (linear, factor) => {
      const original = liveWeights(linear, factor);
      using w = context.alloc(original.byteLength);
      w.upload(original);
      const { weights, values } = base(job, linear, w, factor);
      if (settings.rank === 0) return { weights, lora: null };
      for (let i = 0; i < values.length; i++) values[i] = original[i]! - values[i]!;
      w.upload(values);
      const seed = [settings.seed, layer, index++];
      return { weights, lora: closedFormLora(context, w, linear.weight.outFeatures, factor, settings.rank, seed) };
    });
  },
};

/**
 * What the LoRA is made over: the result that the run begins with, or GPTQ's.
 * @param w float32 [out, in], the weights on the device; overwritten
 */
function base(job: BlockJob, linear: Linear, w: DeviceBuffer, factor: GramFactor) {
  const { context, settings, init } = job;
  const { name, weight } = linear;
  const { outFeatures, inFeatures } = weight;
  const given = init?.get(name);
  if (given) {
    const values = Float32Array.from(dequantizeStored(given.weights, outFeatures, inFeatures));
    for (const column of factor.dead) {
      for (let row = 0; row < outFeatures; row++) values[row * inFeatures + column] = 0;
    }
    return { weights: given.weights, values };
  }
  const weights: StoredWeights = optqQuantize(context, w, outFeatures, factor, {
    bits: bitsOf(job, linear),
    group: settings.group,
  });
  return { weights, values: w.download(new Float32Array(outFeatures * inFeatures)) };
}

/** Bytes of device memory that closedFormLora takes. */
function closedFormBytes(out: number, into: number, rank: number): number {
  return 4 * out * into + Math.max(truncatedSvdBytes([into, out], rank), 2 * 4 * rank * into);
}

/**
 * The LoRA of the smallest |root^T (rest - B A)^T|.
 * @param rest float32 [out, in], W - Q
 */
export function closedFormLora(
  context: Context,
  rest: DeviceBuffer,
  outFeatures: number,
  { n, root, inverse }: GramFactor,
  rank: number,
  seed: readonly number[],
): LoraMatrices {
  using product = context.alloc(n * outFeatures * 4);
  const shape = { m: n, n: outFeatures, k: n };
  matmul(context, { a: root.at(0), b: rest.at(0), c: product.at(0), ...shape, transposeA: true, transposeB: true });
  const { u, values, v } = truncatedSvd(context, product.at(0), [n, outFeatures], rank, { seed });
  for (let i = 0; i < rank; i++) {
    for (let k = 0; k < n; k++) u[i * n + k] = u[i * n + k]! * values[i]!;
  }
  using left = context.alloc(u.byteLength);
  using a = context.alloc(u.byteLength);
  left.upload(u);
  matmul(context, { a: left.at(0), b: inverse.at(0), c: a.at(0), m: rank, n, k: n });
  return balancedLora(v, a.download(new Float32Array(u.length)), rank);
}
