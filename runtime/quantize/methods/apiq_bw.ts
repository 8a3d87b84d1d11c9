/** ApiQ, block-wise: LoRA and learned clipping of a block trained together so that its activations are preserved. */
import type { QuantizationMethod } from "../method.ts";
import { CLIPPING } from "../training/clipping_recipe.ts";
import { LORA_OPTIONS, TRAINING_OPTIONS } from "../training/options.ts";
import { trainBlock } from "../training/train_block.ts";
import { blockBytes, blockScratchWidths } from "../training/working_bytes.ts";

/**
 * Four times the paper's learning rates. With them SmolLM2-135M at 2 bits, groups of 64, 64 windows of 512 tokens, 8 epochs, augLoss,
 * seed 0 ends at a WikiText-2 perplexity of 45.4 (40 windows of 1024); the authors' code and settings at that budget end at 92.5.
 */
const LEARNING_RATES = { loraLearningRate: 2e-3, clippingLearningRate: 2e-2 };

export const apiqBwMethod: QuantizationMethod = {
  name: "apiq-bw",
  summary: "LoRA and clipping trained together, block by block, to preserve activations",
  source: "arXiv 2402.05147",
  needsCalibration: true,
  uses: [...TRAINING_OPTIONS, ...LORA_OPTIONS, "clippingLearningRate"],
  defaults: LEARNING_RATES,
  workingBytes: (config, settings, length) => blockBytes(config, settings, length, { ...CLIPPING, lora: true }),
  scratchWidths: blockScratchWidths,
  quantizeBlock: (job) => trainBlock(job, { ...CLIPPING, lora: true }),
};
