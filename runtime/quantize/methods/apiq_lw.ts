/** ApiQ, layer-wise: LoRA and learned clipping of linears that share an input trained together, in forward order. */
import type { QuantizationMethod } from "../method.ts";
import { CLIPPING, CLIPPING_LEARNING_RATE, LORA_LEARNING_RATE } from "../training/clipping_recipe.ts";
import { LORA_OPTIONS, TRAINING_OPTIONS } from "../training/options.ts";
import { trainParts } from "../training/train_parts.ts";
import { partsBytes, partsScratchWidths } from "../training/working_bytes.ts";

export const apiqLwMethod: QuantizationMethod = {
  name: "apiq-lw",
  summary: "LoRA and clipping trained together, linear by linear, to preserve activations",
  source: "arXiv 2402.05147",
  needsCalibration: true,
  uses: [...TRAINING_OPTIONS, ...LORA_OPTIONS, "clippingLearningRate"],
  defaults: { loraLearningRate: LORA_LEARNING_RATE, clippingLearningRate: CLIPPING_LEARNING_RATE },
  workingBytes: (config, settings, length) => partsBytes(config, settings, length, { ...CLIPPING, lora: true }),
  scratchWidths: partsScratchWidths,
  quantizeBlock: (job) => trainParts(job, { ...CLIPPING, lora: true }),
};
