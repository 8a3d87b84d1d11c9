/** Learned clipping as the trained quantizer; methods add LoRA or not. */
import { LearnedClipping } from "./learned_clipping.ts";
import type { Recipe } from "./recipe.ts";

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
