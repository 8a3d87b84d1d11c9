/** What the methods that train can be told. */
import type { MethodOption } from "../method.ts";

export const TRAINING_OPTIONS: readonly MethodOption[] = [
  "bits",
  "bitsFor",
  "group",
  "epochs",
  "schedule",
  "weightDecay",
  "augLoss",
  "init",
];

/** Of those that train LoRA along. */
export const LORA_OPTIONS: readonly MethodOption[] = ["rank", "alpha", "dora", "loraLearningRate"];

/** Of those that train the scales of the whole model at the end. */
export const END_TO_END_OPTIONS: readonly MethodOption[] = ["endToEndEpochs", "endToEndLearningRate"];
