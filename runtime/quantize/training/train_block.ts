/**
 * Trains all linears of a block together, so that its output stays what it was (ApiQ-bw, arXiv 2402.05147; OmniQuant, arXiv
 * 2308.13137).
 */
import type { DeviceBuffer, Ref } from "../../../ffi/mod.ts";
import { decoderBlock } from "../../models/decoder.ts";
import { blockLinears } from "../../models/weights.ts";
import { copyTensor, TrainingOps, trainingArenaBytes } from "../../ops/training.ts";
import { Arena } from "../../tensor.ts";
import type { BlockJob, QuantizedLinear } from "../method.ts";
import { trainEpochs } from "./epochs.ts";
import { LinearTraining } from "./linear_training.ts";
import type { Recipe } from "./recipe.ts";
import { StepLoss } from "./step_loss.ts";

type Calibration = NonNullable<BlockJob["calibration"]>;

/**
 * Adam's steps over the calibration samples, one at a time and in order: the target is the full-precision block on the full-
 * precision stream, the input the quantized prefix; with augLoss the full-precision block on that input is a second target.
 */
export async function trainBlock(job: BlockJob, recipe: Recipe): Promise<Map<string, QuantizedLinear>> {
  const linears = blockLinears(job.block).filter((linear) => !job.kept.has(linear));
  if (linears.length === 0) return new Map();
  const calibration = calibrationOf(job);
  using training = new LinearTraining(job, linears, recipe);
  using second = job.settings.augLoss ? blockOutputs(job, calibration) : null;
  using steps = new BlockSteps(job, calibration, training, second);
  const { samples } = calibration.inputs;
  await trainEpochs({ job, recipe, training, samples, part: null, run: (sample) => steps.run(sample) });
  return training.result();
}

export function calibrationOf({ calibration, layer }: BlockJob): Calibration {
  if (!calibration) throw new Error(`Cannot quantize block ${layer}: the method needs calibration samples`);
  return calibration;
}

/** The full-precision block on the quantized prefix's output: float32 [samples, length, hidden]. */
function blockOutputs(job: BlockJob, { inputs }: Calibration): DeviceBuffer {
  const { context, config, block, layer, inverseFrequencies } = job;
  const { samples, length, hidden } = inputs;
  const outputs = context.alloc(samples * length * hidden * 4);
  using buffer = context.alloc(trainingArenaBytes(config, 1, length, false));
  using ops = new TrainingOps({ context, config, arena: new Arena(buffer), sequences: 1, length, inverseFrequencies });
  for (let sample = 0; sample < samples; sample++) {
    ops.begin(false);
    const y = decoderBlock(ops, config, block, layer, ops.input(inputs.read(sample)));
    copyTensor(context, y.ref, outputs.at(sample * length * hidden * 4), length * hidden);
  }
  return outputs;
}

/** Forward pass, loss and backward pass of one sample. */
class BlockSteps implements Disposable {
  readonly #job: BlockJob;
  readonly #calibration: Calibration;
  readonly #training: LinearTraining;
  readonly #second: DeviceBuffer | null;
  readonly #ops: TrainingOps;
  readonly #loss: StepLoss;
  readonly #gradient: Ref;
  readonly #owned: Disposable[];

  constructor(job: BlockJob, calibration: Calibration, training: LinearTraining, second: DeviceBuffer | null) {
    this.#job = job;
    this.#calibration = calibration;
    this.#training = training;
    this.#second = second;
    const { context, config, inverseFrequencies, settings } = job;
    const { length, hidden } = calibration.inputs;
    const lora = [...training.trainable.values()].some((linear) => linear.lora);
    const { rank, dora } = settings;
    const buffer = context.alloc(trainingArenaBytes(config, 1, length, true, lora ? { rank, dora } : {}));
    const gradient = context.alloc(length * hidden * 4);
    this.#gradient = gradient.at(0);
    const arena = new Arena(buffer);
    const { trainable } = training;
    this.#ops = new TrainingOps({ context, config, arena, sequences: 1, length, inverseFrequencies, trainable });
    this.#loss = new StepLoss(context);
    this.#owned = [buffer, gradient, this.#ops, this.#loss];
  }

  /** @returns the loss; gradients are in place */
  run(sample: number): number {
    const { config, block, layer } = this.#job;
    const { inputs, targets } = this.#calibration;
    const ops = this.#ops;
    this.#loss.reset();
    this.#training.prepare();
    ops.begin(true);
    const y = decoderBlock(ops, config, block, layer, ops.input(inputs.read(sample)));
    const count = inputs.length * inputs.hidden;
    this.#loss.add(y.ref, targets.read(sample), this.#gradient, count, false);
    if (this.#second) this.#loss.add(y.ref, this.#second.at(sample * count * 4), this.#gradient, count, true);
    ops.backward(y, { ref: this.#gradient, dtype: "f32", shape: y.shape });
    return this.#loss.read();
  }

  [Symbol.dispose](): void {
    for (const owned of this.#owned.splice(0).reverse()) owned[Symbol.dispose]();
  }
}
