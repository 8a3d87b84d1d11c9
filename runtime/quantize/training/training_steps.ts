/** Training steps over calibration samples, the same for a whole block and for a part of one. */
import type { Ref } from "../../../ffi/mod.ts";
import { TrainingOps, trainingArenaBytes } from "../../ops/training.ts";
import { Arena, elements, type Tensor } from "../../tensor.ts";
import type { BlockJob, CalibrationStream } from "../method.ts";
import type { LinearTraining } from "./linear_training.ts";
import { StepLoss } from "./step_loss.ts";

export interface StepOptions {
  readonly job: BlockJob;
  readonly training: LinearTraining;
  /** The outputs of a sample that have targets. */
  readonly forward: (ops: TrainingOps, sample: number) => readonly Tensor[];
  /** What each output is to equal: one stream or more. */
  readonly targets: readonly (readonly CalibrationStream[])[];
}

export class TrainingSteps implements Disposable {
  readonly #options: StepOptions;
  readonly #ops: TrainingOps;
  readonly #loss: StepLoss;
  /** Of each output, [length, its width] */
  readonly #gradients: readonly Ref[];
  readonly #owned: readonly Disposable[];

  constructor(options: StepOptions) {
    this.#options = options;
    const { job, training, targets } = options;
    const { context, config, inverseFrequencies, settings } = job;
    const { trainable } = training;
    const { length } = targets[0][0];
    const separate = [...trainable.values()].some(({ lora }) => lora);
    const { rank, dora } = settings;
    const buffer = context.alloc(trainingArenaBytes(config, 1, length, true, separate ? { rank, dora } : {}));
    const gradients = targets.map(([{ hidden }]) => context.alloc(length * hidden * 4));
    this.#gradients = gradients.map((gradient) => gradient.at(0));
    const arena = new Arena(buffer);
    this.#ops = new TrainingOps({ context, config, arena, sequences: 1, length, inverseFrequencies, trainable });
    this.#loss = new StepLoss(context);
    this.#owned = [this.#loss, this.#ops, ...gradients, buffer];
  }

  /**
   * Forward pass, loss and backward pass of one sample.
   * @returns the loss, summed over outputs and targets; gradients are in place
   */
  run(sample: number): number {
    const { training, forward, targets } = this.#options;
    this.#loss.reset();
    training.prepare();
    this.#ops.begin(true);
    const outputs = forward(this.#ops, sample);
    for (const [i, y] of outputs.entries()) {
      for (const [j, target] of targets[i].entries()) {
        this.#loss.add(y.ref, target.read(sample), this.#gradients[i], elements(y.shape), j > 0);
      }
    }
    this.#ops.backwardFrom(outputs.map((y, i) => [y, { ref: this.#gradients[i], dtype: "f32", shape: y.shape }]));
    return this.#loss.read();
  }

  [Symbol.dispose](): void {
    for (const owned of this.#owned) owned[Symbol.dispose]();
  }
}
