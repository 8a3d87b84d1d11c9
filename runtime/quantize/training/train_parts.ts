/**
 * Trains the linears of a block part by part in forward order, so that each linear's output stays what it was (ApiQ-lw, arXiv
 * 2402.05147).
 */
import type { DeviceBuffer, Ref } from "../../../ffi/mod.ts";
import { decoderBlock } from "../../models/decoder.ts";
import type { Linear } from "../../models/weights.ts";
import { matmul } from "../../ops/matmul.ts";
import { copyTensor, type TrainableLinear, TrainingOps, trainingArenaBytes } from "../../ops/training.ts";
import { Arena, type Tensor } from "../../tensor.ts";
import type { BlockJob, CalibrationStream, QuantizedLinear } from "../method.ts";
import { trainEpochs } from "./epochs.ts";
import { FrozenLinears } from "./frozen.ts";
import { LinearTraining } from "./linear_training.ts";
import type { Recipe } from "./recipe.ts";
import { StepLoss } from "./step_loss.ts";
import { calibrationOf } from "./train_block.ts";
import { vectors } from "./weight_quantizer.ts";

/**
 * A part is the linears that share an input. Its target is what the full-precision linears give in the full-precision block, its
 * input what the quantized prefix and the parts before it give. With augLoss, what the full-precision linears make of that input
 * is a second target.
 */
export async function trainParts(job: BlockJob, recipe: Recipe): Promise<Map<string, QuantizedLinear>> {
  const { q, k, v, o, gate, up, down } = job.block;
  const { samples, length } = calibrationOf(job).inputs;
  const results = new Map<string, QuantizedLinear>();
  using frozen = new FrozenLinears(job.context);
  for (const linears of [[q, k, v], [o], [gate, up], [down]]) {
    const part = linears.filter((linear) => !job.kept.has(linear));
    if (part.length === 0) continue;
    using data = new PartData(job, part, frozen.trainable);
    // A bias is the same on both sides: it cancels.
    const unbiased = part.map((linear): Linear => ({ ...linear, bias: null }));
    using training = new LinearTraining(job, unbiased, recipe);
    using steps = new PartSteps(job, unbiased, data, training, length);
    const name = part.map((linear) => linear.name).join(", ");
    await trainEpochs({ job, recipe, training, samples, part: name, run: (sample) => steps.run(sample) });
    for (const [module, result] of training.result()) {
      results.set(module, result);
      frozen.add(part.find((linear) => linear.name === module) as Linear, result);
    }
  }
  return results;
}

/** Inputs and targets of a part for all samples, in memory while it trains. */
class PartData implements Disposable {
  readonly #buffer: DeviceBuffer;
  readonly #rows: number;
  readonly #samples: number;
  readonly #widths: readonly number[];

  /** @param frozen linears of the block that are quantized by now */
  constructor(job: BlockJob, part: readonly Linear[], frozen: ReadonlyMap<Linear, TrainableLinear>) {
    const { inputs, referenceInputs } = calibrationOf(job);
    const { context, settings } = job;
    const outputs = part.map(({ weight }) => weight.outFeatures);
    this.#rows = inputs.length;
    this.#samples = inputs.samples;
    this.#widths = [part[0].weight.inFeatures, ...outputs, ...(settings.augLoss ? outputs : [])];
    const width = this.#widths.reduce((sum, size) => sum + size, 0);
    this.#buffer = context.alloc(inputs.samples * inputs.length * width * 4);
    const project = (x: Tensor, sample: number, first: number): void => {
      for (const [i, { weight }] of part.entries()) {
        const { outFeatures: n, inFeatures: k } = weight;
        const c = this.at(first + i, sample);
        matmul(context, { a: x.ref, b: weight.data as Ref, c, m: this.#rows, n, k, transposeB: true });
      }
    };
    visitInputs(job, part, referenceInputs, new Map(), (x, sample) => project(x, sample, 1));
    visitInputs(job, part, inputs, frozen, (x, sample) => {
      copyTensor(context, x.ref, this.input(sample), this.#rows * this.#widths[0]);
      if (settings.augLoss) project(x, sample, 1 + part.length);
    });
  }

  /** float32 [length, in] */
  input(sample: number): Ref {
    return this.at(0, sample);
  }

  /** Tensor `index` (the input, then targets) of a sample. */
  at(index: number, sample: number): Ref {
    const before = this.#widths.slice(0, index).reduce((sum, size) => sum + size, 0);
    return this.#buffer.at((before * this.#samples + this.#widths[index] * sample) * this.#rows * 4);
  }

  [Symbol.dispose](): void {
    this.#buffer[Symbol.dispose]();
  }
}

/** Runs the block on every sample of a stream and shows the part's input. */
function visitInputs(
  job: BlockJob,
  part: readonly Linear[],
  stream: CalibrationStream,
  trainable: ReadonlyMap<Linear, TrainableLinear>,
  see: (x: Tensor, sample: number) => void,
): void {
  const { context, config, block, layer, inverseFrequencies, settings } = job;
  const { rank, dora } = settings;
  using buffer = context.alloc(trainingArenaBytes(config, 1, stream.length, false, { rank, dora }));
  let sample = 0;
  using ops = new TrainingOps({
    context,
    config,
    arena: new Arena(buffer),
    sequences: 1,
    length: stream.length,
    inverseFrequencies,
    trainable,
    onLinear: (linears, x) => {
      if (linears.includes(part[0])) see(x, sample);
    },
  });
  for (; sample < stream.samples; sample++) {
    ops.begin(false);
    decoderBlock(ops, config, block, layer, ops.input(stream.read(sample)));
  }
}

/** Forward pass, loss and backward pass of one sample. */
class PartSteps implements Disposable {
  readonly #part: readonly Linear[];
  readonly #data: PartData;
  readonly #training: LinearTraining;
  readonly #augmented: boolean;
  readonly #ops: TrainingOps;
  readonly #loss: StepLoss;
  readonly #gradients: readonly Ref[];
  readonly #owned: readonly Disposable[];

  constructor(job: BlockJob, part: readonly Linear[], data: PartData, training: LinearTraining, length: number) {
    this.#part = part;
    this.#data = data;
    this.#training = training;
    const { context, config, inverseFrequencies, settings } = job;
    this.#augmented = settings.augLoss;
    const { rank, dora } = settings;
    const arena = context.alloc(trainingArenaBytes(config, 1, length, true, { rank, dora }));
    const widest = Math.max(...part.map(({ weight }) => weight.outFeatures));
    const gradients = vectors(context, length * widest, part.length);
    this.#gradients = gradients.refs;
    this.#loss = new StepLoss(context);
    this.#ops = new TrainingOps({
      context,
      config,
      arena: new Arena(arena),
      sequences: 1,
      length,
      inverseFrequencies,
      trainable: training.trainable,
    });
    this.#owned = [arena, gradients, this.#loss, this.#ops];
  }

  /** @returns the loss, summed over the part's linears; gradients are in place */
  run(sample: number): number {
    const ops = this.#ops;
    this.#loss.reset();
    this.#training.prepare();
    ops.begin(true);
    const x = ops.input(this.#data.input(sample), false, this.#part[0].weight.inFeatures);
    const outputs = ops.linear(x, this.#part);
    for (const [i, y] of outputs.entries()) {
      const count = y.shape[0] * y.shape[1];
      this.#loss.add(y.ref, this.#data.at(1 + i, sample), this.#gradients[i], count, false);
      if (!this.#augmented) continue;
      this.#loss.add(y.ref, this.#data.at(1 + outputs.length + i, sample), this.#gradients[i], count, true);
    }
    ops.backwardFrom(outputs.map((y, i) => [y, { ref: this.#gradients[i], dtype: "f32", shape: y.shape }]));
    return this.#loss.read();
  }

  [Symbol.dispose](): void {
    for (const owned of [...this.#owned].reverse()) owned[Symbol.dispose]();
  }
}
