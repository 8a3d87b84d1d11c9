/** What the methods over a Gram matrix share: the walk over a block's linears, and OPTQ itself (arXiv 2210.17323). */
import type { Context, DeviceBuffer } from "../../ffi/mod.ts";
import type { DecoderConfig } from "../models/config.ts";
import type { Linear } from "../models/weights.ts";
import { readDense } from "./dense.ts";
import { GramCollector, gramArenaBytes, linearGroups } from "./gram.ts";
import { factorGram, type GramFactor } from "./linalg/gram_factor.ts";
import { groupShapes } from "./linear_shapes.ts";
import type { AffineWeights, BlockJob, MethodSettings, QuantizedLinear } from "./method.ts";

export interface WalkOptions {
  /** Whether a group of linears sees the quantized ones before it; otherwise all see the full-precision block's activations. */
  readonly sequential: boolean;
}

/**
 * Calls `quantize` for every linear that is not kept, in forward order, with the factors of its inputs' Gram matrix, which are
 * valid during the call.
 */
export async function walkLinears(
  job: BlockJob,
  quantize: (linear: Linear, factor: GramFactor) => QuantizedLinear,
  { sequential }: WalkOptions = { sequential: true },
): Promise<Map<string, QuantizedLinear>> {
  const { context, block, kept, settings, calibration, report } = job;
  const groups = linearGroups(block)
    .map((group) => group.filter((linear) => !kept.has(linear)))
    .filter((group) => group.length > 0);
  const samples = calibration?.inputs.samples ?? 0;
  const steps = groups.reduce((sum, group) => sum + samples + group.length, 0);
  let step = 0;
  const next = (part: string): Promise<void> => report({ part, epoch: 1, epochs: 1, step: step++, steps, loss: null });

  const result = new Map<string, QuantizedLinear>();
  using collector = new GramCollector(job);
  for (const group of groups) {
    const n = group[0].weight.inFeatures;
    const part = group.map(({ name }) => name).join(", ");
    using gram = context.alloc(n * n * 4);
    using work = context.alloc(n * n * 4);
    await collector.collect(group, gram, () => next(part));
    const factor = factorGram(context, gram, work, n, settings.damping, part);
    if (factor.damping !== settings.damping) {
      await report({ part: `${part} (damping ${factor.damping})`, epoch: 1, epochs: 1, step, steps, loss: null });
    }
    for (const linear of group) {
      await next(linear.name);
      const quantized = quantize(linear, factor);
      result.set(linear.name, quantized);
      if (sequential) collector.replace(linear, quantized);
    }
  }
  return result;
}

/**
 * Bytes of device memory of a sequential walk in the group that takes most.
 * @param ofLinear what `quantize` takes for a linear
 */
export function walkBytes(
  config: DecoderConfig,
  { rank }: Pick<MethodSettings, "rank">,
  length: number,
  ofLinear: (outFeatures: number, inFeatures: number) => number,
): number {
  let replaced = 0;
  let most = 0;
  for (const group of groupShapes(config)) {
    const [[, n]] = group;
    for (const [outFeatures, inFeatures] of group) {
      most = Math.max(most, replaced + 2 * 4 * n * n + ofLinear(outFeatures, inFeatures));
      replaced += 4 * (outFeatures * inFeatures + rank * (outFeatures + inFeatures));
    }
  }
  return most + gramArenaBytes(config, length, rank);
}

/** Bytes of device memory that optqQuantize takes besides the weights. */
export function optqBytes(outFeatures: number, inFeatures: number, group: number): number {
  return outFeatures * inFeatures * (1 + 8 / group);
}

/** A linear's weights in this process: [out, in], with zeros for inputs that calibration never sees. */
export function liveWeights(linear: Linear, { dead }: GramFactor): Float32Array<ArrayBuffer> {
  const { outFeatures, inFeatures } = linear.weight;
  const values = readDense(linear);
  for (const column of dead) {
    for (let row = 0; row < outFeatures; row++) values[row * inFeatures + column] = 0;
  }
  return values;
}

/**
 * OPTQ of weights [out, in] under a Gram matrix.
 * @param w float32 [out, in] on the device; becomes the dequantised matrix
 */
export function optqQuantize(
  context: Context,
  w: DeviceBuffer,
  outFeatures: number,
  { n, inverse }: GramFactor,
  { bits, group }: Pick<MethodSettings, "bits" | "group">,
): AffineWeights {
  const groups = (outFeatures * n) / group;
  using q = context.alloc(outFeatures * n);
  using scale = context.alloc(groups * 4);
  using zero = context.alloc(groups * 4);
  context.gptqQuantize({
    w: w.at(0),
    inverseFactor: inverse.at(0),
    scale: scale.at(0),
    zero: zero.at(0),
    q: q.at(0),
    outFeatures,
    inFeatures: n,
    group,
    bits,
  });
  return {
    family: "affine",
    bits,
    group,
    q: q.download(new Uint8Array(outFeatures * n)),
    scales: scale.download(new Float32Array(groups)),
    zero: "integer",
    zeros: zero.download(new Float32Array(groups)),
  };
}
