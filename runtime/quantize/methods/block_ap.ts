/** EfficientQAT's first phase: weights, scales and zeros of a block trained together; with a rank, LoRA along. */
import type { QuantizationMethod } from "../method.ts";
import type { Recipe } from "../training/recipe.ts";
import { trainBlock } from "../training/train_block.ts";
import { TrainedGrid } from "../training/trained_grid.ts";
import { trainingBytes } from "../training/working_bytes.ts";

/**
 * Published are 1e-5 to 2e-5 for thousands of steps on models of 7 billion weights and more; calibration here has hundreds, and at
 * 5e-4 a block of a small model follows its target clearly better on text that it was not calibrated on.
 */
const WEIGHT_LEARNING_RATE = 5e-4;

/** Nothing decays: a weight or a scale that the block does not need otherwise stays what it was. */
const RECIPE: Recipe = {
  lora: true,
  storable: true,
  groups: ({ clippingLearningRate }) => [
    { settings: { learningRate: WEIGHT_LEARNING_RATE, weightDecay: 0 }, sizes: TrainedGrid.weightSizes },
    { settings: { learningRate: clippingLearningRate, weightDecay: 0 }, sizes: TrainedGrid.gridSizes },
  ],
  quantizer: (context, start, [weights, grid]) => new TrainedGrid(context, weights, grid, start),
};

export const blockApMethod: QuantizationMethod = {
  name: "block-ap",
  summary: "weights, scales and zeros trained together, block by block",
  source: "arXiv 2407.11062, section 3.2",
  needsCalibration: true,
  workingBytes: (config, settings, length) => trainingBytes(config, settings, length, RECIPE),
  quantizeBlock: (job) => trainBlock(job, RECIPE),
};
