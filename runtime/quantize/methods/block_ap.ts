/**
 * EfficientQAT: weights, scales and zeros of a block trained together (Block-AP), then the scales of the whole model (E2E-QP); with
 * a rank, LoRA along in the blocks.
 */
import type { QuantizationMethod } from "../method.ts";
import { scaleTrainingBytes, trainScales } from "../training/end_to_end.ts";
import { END_TO_END_OPTIONS, LORA_OPTIONS, TRAINING_OPTIONS } from "../training/options.ts";
import type { Recipe } from "../training/recipe.ts";
import { trainBlock } from "../training/train_block.ts";
import { TrainedGrid } from "../training/trained_grid.ts";
import { blockBytes, blockScratchWidths } from "../training/working_bytes.ts";

/** Nothing decays: a weight or a scale that the block does not need otherwise stays what it was. */
const RECIPE: Recipe = {
  lora: true,
  storable: true,
  groups: ({ clippingLearningRate, weightLearningRate }) => [
    { settings: { learningRate: weightLearningRate, weightDecay: 0 }, sizes: TrainedGrid.weightSizes },
    { settings: { learningRate: clippingLearningRate, weightDecay: 0 }, sizes: TrainedGrid.gridSizes },
  ],
  quantizer: (context, start, [weights, grid]) => new TrainedGrid(context, weights, grid, start),
};

export const blockApMethod: QuantizationMethod = {
  name: "block-ap",
  summary: "weights, scales and zeros trained together, block by block; then all scales end to end",
  source: "arXiv 2407.11062, sections 3.2 and 3.3",
  needsCalibration: true,
  uses: [...TRAINING_OPTIONS, ...LORA_OPTIONS, "clippingLearningRate", "weightLearningRate", ...END_TO_END_OPTIONS],
  workingBytes: (config, settings, length) => blockBytes(config, settings, length, RECIPE),
  scratchWidths: blockScratchWidths,
  quantizeBlock: (job) => trainBlock(job, RECIPE),
  finish: trainScales,
  finishBytes: scaleTrainingBytes,
};
