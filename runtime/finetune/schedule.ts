/** How the learning rate changes over a run. */
import { learningRateFactor } from "../quantize/training/schedule.ts";

export const SCHEDULES = ["constant", "linear", "cosine"] as const;
export type ScheduleName = (typeof SCHEDULES)[number];

export interface Schedule {
  readonly name: ScheduleName;
  /** Steps over which the factor rises from 0 to 1. */
  readonly warmupSteps: number;
  /** Of the whole run. */
  readonly steps: number;
}

/**
 * Factor of the learning rates in step `step`, from 0 on: rising over the warm-up, then 1, falling on a line to 0, or along half a
 * cosine wave to 0 (arXiv 1608.03983, without restarts). As transformers counts, so a warm-up begins with a step at rate 0.
 */
export function scheduleFactor({ name, warmupSteps, steps }: Schedule, step: number): number {
  if (step < warmupSteps) return step / warmupSteps;
  const progress = Math.min(1, (step - warmupSteps) / Math.max(1, steps - warmupSteps));
  return name === "linear" ? 1 - progress : learningRateFactor(name, progress);
}
