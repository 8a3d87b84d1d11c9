/** How learning rates change over a block's steps. */
import type { MethodSettings } from "../method.ts";

/** Runtimes may differ in the last bit of a cosine: what is left of one after rounding is the same everywhere. */
const STEPS = 2 ** 20;

/**
 * Factor of the learning rates after a part `progress` of the steps, from 0 to 1: 1 throughout, or half a cosine wave from 1 to 0
 * (arXiv 1608.03983, without restarts).
 */
export function learningRateFactor(schedule: MethodSettings["schedule"], progress: number): number {
  return schedule === "constant" ? 1 : Math.round(STEPS * (0.5 + Math.cos(Math.PI * progress) / 2)) / STEPS;
}
