/** The loop that all trained methods share: samples in order, epoch after epoch, progress and a stop at the first bad loss. */
import type { BlockJob } from "../method.ts";
import type { LinearTraining } from "./linear_training.ts";
import type { Recipe } from "./recipe.ts";

export interface EpochOptions {
  readonly job: BlockJob;
  readonly recipe: Recipe;
  readonly training: LinearTraining;
  readonly samples: number;
  /** What is trained, or null for the whole block. */
  readonly part: string | null;
  /** Forward pass, loss and backward pass of one sample; returns the loss. */
  readonly run: (sample: number) => number;
}

export async function trainEpochs({ job, recipe, training, samples, part, run }: EpochOptions): Promise<void> {
  const { epochs } = job.settings;
  for (let epoch = 1; epoch <= epochs; epoch++) {
    let sum = 0;
    for (let sample = 0; sample < samples; sample++) {
      const loss = run(sample);
      const step = sample + 1;
      if (!Number.isFinite(loss)) {
        const what = part ?? `block ${job.layer}`;
        const place = `in epoch ${epoch}, step ${step}`;
        throw new Error(`Cannot quantize ${what}: the loss became ${loss} ${place}; lower learning rates may help`);
      }
      const done = (epoch - 1) * samples + sample;
      recipe.onStep?.(done, loss, training.view);
      training.step(recipe.schedule?.(done / (epochs * samples)) ?? 1);
      sum += loss;
      await job.report({ part, epoch, epochs, step, steps: samples, loss: sum / step });
    }
  }
  recipe.onEnd?.(training.view);
}
