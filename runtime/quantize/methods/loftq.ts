/**
 * LoftQ: weights and LoRA made together so that Q + B A is near W, by taking turns: Q = quantize(W - B A), B A = the best of
 * its rank for W - Q. Over min-max groups, or over NormalFloat with `base: "nf"`. No data. Begun from another method's result,
 * the first B A is that one's.
 */
import type { Context, DeviceBuffer } from "../../../ffi/mod.ts";
import { blockLinears, type Linear } from "../../models/weights.ts";
import { matmul } from "../../ops/matmul.ts";
import { minMaxBytes, minMaxQuantize } from "../affine.ts";
import { bitsOf } from "../bits_for.ts";
import { readDense } from "../dense.ts";
import { dequantizeStored } from "../dequantize.ts";
import { truncatedSvd, truncatedSvdBytes } from "../linalg/svd.ts";
import { linearShapes } from "../linear_shapes.ts";
import { balancedLora } from "../lora_factors.ts";
import { nfTable, quantizeLut, roundToHalf } from "../lut.ts";
import type { LoraMatrices, MethodSettings, QuantizationMethod, QuantizedLinear, StoredWeights } from "../method.ts";

export const loftqMethod: QuantizationMethod = {
  name: "loftq",
  summary: "weights and LoRA by turns of quantization and SVD, no data",
  source: "arXiv 2310.08659",
  needsCalibration: false,
  uses: ["bits", "bitsFor", "group", "rank", "iterations", "base", "doubleQuantization", "init"],
  workingBytes: (config, { rank, group, base }) => {
    const bytes = linearShapes(config).map(([out, into]) => {
      const quantizing = base === "nf" ? 0 : minMaxBytes(out * into, group);
      return 4 * out * into + Math.max(quantizing, rank === 0 ? 0 : truncatedSvdBytes([out, into], rank));
    });
    return Math.max(...bytes);
  },
  async quantizeBlock(job) {
    const { context, block, layer, kept, init, report } = job;
    const result = new Map<string, QuantizedLinear>();
    const linears = blockLinears(block).filter((linear) => !kept.has(linear));
    const steps = linears.length;
    for (const [step, linear] of linears.entries()) {
      const settings = { ...job.settings, bits: bitsOf(job, linear) };
      const turn = (epoch: number, loss: number | null): Promise<void> =>
        report({ part: linear.name, epoch, epochs: settings.iterations, step, steps, loss });
      const seed = [settings.seed, layer, step];
      result.set(
        linear.name,
        await alternate(context, linear, settings, init?.get(linear.name)?.lora ?? null, seed, turn),
      );
    }
    return result;
  },
};

/** The turns do not always come nearer: the nearest of all is kept. */
async function alternate(
  context: Context,
  linear: Linear,
  settings: MethodSettings,
  start: LoraMatrices | null,
  seed: readonly number[],
  turn: (epoch: number, loss: number | null) => Promise<void>,
): Promise<QuantizedLinear> {
  const { outFeatures: out, inFeatures: into } = linear.weight;
  const original = readDense(linear);
  using w = context.alloc(original.byteLength);
  let target = start === null ? original : difference(original, multiplied(context, start, w, out, into));
  let best: QuantizedLinear | null = null;
  let least = Number.POSITIVE_INFINITY;
  for (let epoch = 1; epoch <= settings.iterations; epoch++) {
    await turn(epoch, best && least);
    const weights = quantizeBase(context, target, w, out, into, settings);
    const rest = difference(original, dequantizeStored(weights, out, into));
    const lora = settings.rank === 0 ? null : bestLora(context, rest, w, out, into, settings.rank, [...seed, epoch]);
    const adapted = lora === null ? new Float32Array(rest.length) : multiplied(context, lora, w, out, into);
    const error = meanSquare(difference(rest, adapted));
    if (error < least) {
      least = error;
      best = { weights, lora };
    }
    if (lora === null) break;
    target = difference(original, adapted);
  }
  if (best === null) throw new Error("Cannot quantize with loftq: the weights hold numbers that are not finite");
  return best;
}

function quantizeBase(
  context: Context,
  values: Float32Array,
  w: DeviceBuffer,
  out: number,
  into: number,
  { base, bits, group, doubleQuantization }: MethodSettings,
): StoredWeights {
  if (base === "nf" && bits !== 8) return quantizeLut(values, [out, into], group, nfTable(bits), doubleQuantization);
  w.upload(values);
  const { q, scales, zeros } = minMaxQuantize(context, w.at(0), out, into, bits, group);
  return { family: "affine", bits, group, q, scales, zero: "integer", zeros };
}

/** The LoRA nearest to `rest` [out, in]. */
function bestLora(
  context: Context,
  rest: Float32Array,
  w: DeviceBuffer,
  out: number,
  into: number,
  rank: number,
  seed: readonly number[],
): LoraMatrices {
  w.upload(rest);
  const { u, values, v } = truncatedSvd(context, w.at(0), [out, into], rank, { seed });
  for (let i = 0; i < v.length; i++) v[i] = v[i]! * values[Math.floor(i / into)]!;
  const lora = balancedLora(u, v, rank);
  return { ...lora, a: roundToHalf(lora.a), b: roundToHalf(lora.b) };
}

/** alpha / rank b a, through the buffer `w`. */
function multiplied(
  context: Context,
  { a, b, rank, alpha }: LoraMatrices,
  w: DeviceBuffer,
  out: number,
  into: number,
): Float32Array {
  using deviceA = context.alloc(a.byteLength);
  using deviceB = context.alloc(b.byteLength);
  deviceA.upload(a);
  deviceB.upload(b);
  matmul(context, { a: deviceB.at(0), b: deviceA.at(0), c: w.at(0), m: out, n: into, k: rank, alpha: alpha / rank });
  return w.download(new Float32Array(out * into));
}

function difference(a: Float32Array, b: Float32Array): Float32Array {
  const result = new Float32Array(a.length);
  for (let i = 0; i < a.length; i++) result[i] = a[i]! - b[i]!;
  return result;
}

function meanSquare(values: Float32Array): number {
  let sum = 0;
  for (const value of values) sum += value * value;
  return sum / values.length;
}
