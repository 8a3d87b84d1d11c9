/** OmniQuant's learned weight clipping: ranges of a block trained together, no LoRA. */
import type { QuantizationMethod } from "../method.ts";
import { CLIPPING, CLIPPING_LEARNING_RATE } from "../training/clipping_recipe.ts";
import { TRAINING_OPTIONS } from "../training/options.ts";
import { trainBlock } from "../training/train_block.ts";
import { blockBytes, blockScratchWidths } from "../training/working_bytes.ts";

export const omniquantMethod: QuantizationMethod = {
  name: "omniquant",
  summary: "clipping trained block by block, no LoRA",
  source: "arXiv 2308.13137",
  needsCalibration: true,
  uses: [...TRAINING_OPTIONS, "clippingLearningRate"],
  defaults: { clippingLearningRate: CLIPPING_LEARNING_RATE },
  workingBytes: (config, settings, length) => blockBytes(config, settings, length, CLIPPING),
  scratchWidths: blockScratchWidths,
  quantizeBlock: (job) => trainBlock(job, CLIPPING),
};
