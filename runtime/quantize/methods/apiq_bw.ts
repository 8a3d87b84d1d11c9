/** ApiQ, block-wise: LoRA and learned clipping of a block trained together so that its activations are preserved. */
import type { QuantizationMethod } from "../method.ts";
import { CLIPPING, CLIPPING_LEARNING_RATE, LORA_LEARNING_RATE } from "../training/clipping_recipe.ts";
import { LORA_OPTIONS, TRAINING_OPTIONS } from "../training/options.ts";
import { trainBlock } from "../training/train_block.ts";
import { blockBytes, blockScratchWidths } from "../training/working_bytes.ts";

export const apiqBwMethod: QuantizationMethod = {
  name: "apiq-bw",
  summary: "LoRA and clipping trained together, block by block, to preserve activations",
  source: "arXiv 2402.05147",
  needsCalibration: true,
  uses: [...TRAINING_OPTIONS, ...LORA_OPTIONS, "clippingLearningRate"],
  defaults: { loraLearningRate: LORA_LEARNING_RATE, clippingLearningRate: CLIPPING_LEARNING_RATE },
  workingBytes: (config, settings, length) => blockBytes(config, settings, length, { ...CLIPPING, lora: true }),
  scratchWidths: blockScratchWidths,
  quantizeBlock: (job) => trainBlock(job, { ...CLIPPING, lora: true }),
};
