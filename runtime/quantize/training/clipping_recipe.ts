/** Learned clipping as the trained quantizer; methods add LoRA or not. */
import { LearnedClipping } from "./learned_clipping.ts";
import type { Recipe } from "./recipe.ts";

/**
 * Ten times the paper's learning rates (arXiv 2402.05147, section 5): calibration here has hundreds of steps a block, not thousands.
 * SmolLM2-135M at 2 bits in groups of 64, first blocks quantized and the others not, 64 windows of 256 tokens, 8 epochs, augLoss,
 * seed 0, perplexity of other text of the same data set:
 *
 *                            paper's   4 times   10 times   10 times along a cosine
 *   apiq-bw, 6 of 30 blocks              34.63      34.05                     34.32
 *   apiq-lw, 3 of 30           36.21                35.82
 *   omniquant, 3 of 30         40.16                37.69
 */
export const LORA_LEARNING_RATE = 5e-3;
export const CLIPPING_LEARNING_RATE = 5e-2;

export const CLIPPING: Recipe = {
  lora: false,
  storable: true,
  groups: ({ clippingLearningRate: learningRate, weightDecay }) => [
    { settings: { learningRate, weightDecay }, sizes: LearnedClipping.parameterSizes },
  ],
  quantizer: (context, start, [factors]) => new LearnedClipping(context, factors, start, true),
};

/** The same without rounding to what is stored, as the published code trains. */
export const UNROUNDED_CLIPPING: Recipe = {
  ...CLIPPING,
  storable: false,
  quantizer: (context, start, [factors]) => new LearnedClipping(context, factors, start, false),
};
