/**
 * The scales of all packed linears trained together on next-token cross-entropy over the calibration samples, integers and zeros
 * fixed: EfficientQAT's second phase, E2E-QP (arXiv 2407.11062, section 3.3). LoRA that the model has takes part and stays as it
 * is.
 */
import { type DeviceBuffer, type Ref, WEIGHT_DENSE } from "../../../ffi/mod.ts";
import type { DecoderConfig } from "../../models/config.ts";
import { loadDecoder } from "../../models/load.ts";
import { blockLinears, type DecoderWeights, type Linear } from "../../models/weights.ts";
import type { TrainableLinear } from "../../ops/training.ts";
import { FrozenLora } from "../../training/frozen_lora.ts";
import { ModelTrainer, nextTokens, trainerBytes } from "../../training/model_trainer.ts";
import { TrainedScales } from "../../training/trained_scales.ts";
import { linearShapes } from "../linear_shapes.ts";
import type { MethodSettings, ModelJob, Revision, StoredWeights } from "../method.ts";
import { learningRateFactor } from "./schedule.ts";

/** Of a group: float16 scale and zero, and the float32 factor with gradient and moments. */
const PACKED_GROUP_BYTES = 4;
const FACTOR_BYTES = 16;

/** Longest gradient, over all factors, that a step follows. */
const MAX_NORM = 1;

export async function trainScales(job: ModelJob): Promise<Revision> {
  const { context, checkpoint, config, settings } = job;
  using model = loadDecoder(context, checkpoint, config);
  const linears = model.weights.blocks.flatMap(blockLinears);
  const packed = linears.filter(({ weight }) => weight.kind !== WEIGHT_DENSE);
  if (packed.length === 0) return (_, linear) => linear;
  const learning = { learningRate: settings.endToEndLearningRate, weightDecay: 0 };
  using scales = new TrainedScales(context, packed, learning);
  using lora = checkpoint.initAdapter ? new FrozenLora(context, checkpoint.initAdapter, linears) : null;
  const trainable = new Map<Linear, TrainableLinear>();
  for (const linear of linears) {
    const factors = scales.trainable.get(linear);
    trainable.set(linear, {
      weight: null,
      dweight: null,
      lora: lora?.linears.get(linear) ?? null,
      ...(factors && { factors }),
    });
  }
  await train(job, model.weights, trainable, scales);
  return revision(new Map([...scales.trainable.keys()].map((linear) => [linear.name, scales.read(linear)])));
}

/** Device memory of `trainScales`: the packed model, what trains of it, and the trainer. */
export function scaleTrainingBytes(config: DecoderConfig, settings: MethodSettings, length: number): number {
  const { bits, group, rank, dora } = settings;
  const shapes = linearShapes(config);
  const weights = shapes.reduce((sum, [out, into]) => sum + out * into, 0);
  const sides = shapes.reduce((sum, [out, into]) => sum + out + into, 0);
  const perBlock = weights * (bits / 8 + (PACKED_GROUP_BYTES + FACTOR_BYTES) / group) + 4 * rank * sides;
  const tables = 2 * config.vocabSize * config.hiddenSize * (config.tiedEmbeddings ? 1 : 2);
  return (
    config.layers * perBlock +
    tables +
    trainerBytes(config, 1, length, { rank, dora, factors: true, inputGradient: true })
  );
}

/**
 * AdamW over the samples in order, one a step, along half a cosine. Published are 32 a step, of thousands: of the hundreds here
 * that would leave a handful of steps.
 */
async function train(
  { context, samples, settings, report }: ModelJob,
  weights: DecoderWeights,
  trainable: ReadonlyMap<Linear, TrainableLinear>,
  { parameters }: TrainedScales,
): Promise<void> {
  const [{ length }] = samples;
  using trainer = new ModelTrainer({ context, weights, trainable, sequences: 1, length });
  using squares = context.alloc(8);
  const epochs = settings.endToEndEpochs;
  const steps = samples.length;
  for (let epoch = 1; epoch <= epochs; epoch++) {
    let sum = 0;
    for (const [index, ids] of samples.entries()) {
      const step = index + 1;
      const loss = trainer.gradients(nextTokens(ids), 1 / (length - 1), false).sum / (length - 1);
      const norm = gradientNorm(squares, (ref) => parameters.addSquares(ref));
      const bad = [loss, norm].find((value) => !Number.isFinite(value));
      if (bad !== undefined) {
        const what = !Number.isFinite(loss) ? "loss" : "gradient";
        throw new Error(`the model's ${what} became ${bad} in epoch ${epoch}, step ${step}; ${ADVICE}`);
      }
      const progress = ((epoch - 1) * steps + index) / (epochs * steps);
      parameters.step(learningRateFactor("cosine", progress), norm > MAX_NORM ? MAX_NORM / norm : 1);
      sum += loss;
      await report({ part: null, epoch, epochs, step, steps, loss: sum / step });
    }
  }
}

const ADVICE = "a lower --end-to-end-lr may help, and 0 --end-to-end-epochs leave it out";

function gradientNorm(squares: DeviceBuffer, add: (sum: Ref) => void): number {
  squares.upload(new Float64Array(1));
  add(squares.at(0));
  return Math.sqrt(squares.download(new Float64Array(1))[0]);
}

function revision(factors: ReadonlyMap<string, Float32Array>): Revision {
  return (module, { weights, lora }) => ({ weights: scaledWeights(weights, factors.get(module)), lora });
}

/**
 * Stored scales times their factors; minima of float zeros are moved along, as w = scale q + min.
 *
 * @param by [out, in / group]; absent: all 1
 */
export function scaledWeights(weights: StoredWeights, by: Float32Array | undefined): StoredWeights {
  if (!by || weights.family === "dense") return weights;
  const times = (values: Float32Array): Float32Array => values.map((value, group) => value * by[group]);
  if (weights.family === "lut") return { ...weights, scales: times(weights.scales), double: null };
  const zeros = weights.zero === "float" ? times(weights.zeros) : weights.zeros;
  return { ...weights, scales: times(weights.scales), zeros };
}
