/** The loop that all trained methods share: samples in order, epoch after epoch, progress and a stop at the first bad loss. */
import { calibrationOf } from "../calibration_of.ts";
import type { Recipe } from "./recipe.ts";
import { learningRateFactor } from "./schedule.ts";
import { type StepOptions, TrainingSteps } from "./training_steps.ts";

export interface EpochOptions extends StepOptions {
  readonly recipe: Recipe;
  /** What is trained, or null for the whole block. */
  readonly part: string | null;
}

export async function trainEpochs(options: EpochOptions): Promise<void> {
  const { job, recipe, training, part } = options;
  const { epochs, schedule } = job.settings;
  const { samples } = calibrationOf(job).inputs;
  using steps = new TrainingSteps(options);
  for (let epoch = 1; epoch <= epochs; epoch++) {
    let sum = 0;
    for (let sample = 0; sample < samples; sample++) {
      const loss = steps.run(sample);
      const step = sample + 1;
      if (!Number.isFinite(loss)) {
        const what = part ?? `block ${job.layer}`;
        const place = `in epoch ${epoch}, step ${step}`;
        throw new Error(`Cannot quantize ${what}: the loss became ${loss} ${place}; lower learning rates may help`);
      }
      const done = (epoch - 1) * samples + sample;
      recipe.onStep?.(done, loss, training.view);
      training.step(learningRateFactor(schedule, done / (epochs * samples)));
      sum += loss;
      await job.report({ part, epoch, epochs, step, steps: samples, loss: sum / step });
    }
  }
  recipe.onEnd?.(training.view);
}
