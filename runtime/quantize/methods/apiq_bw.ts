/** ApiQ, block-wise: LoRA and learned clipping of a block trained together so that its activations are preserved. */
import type { QuantizationMethod } from "../method.ts";
import { CLIPPING } from "../training/clipping_recipe.ts";
import { trainBlock } from "../training/train_block.ts";
import { trainingBytes } from "../training/working_bytes.ts";

export const apiqBwMethod: QuantizationMethod = {
  name: "apiq-bw",
  summary: "LoRA and clipping trained together, block by block, to preserve activations",
  source: "arXiv 2402.05147",
  needsCalibration: true,
  workingBytes: (config, settings, length) => trainingBytes(config, settings, length, { ...CLIPPING, lora: true }),
  quantizeBlock: (job) => trainBlock(job, { ...CLIPPING, lora: true }),
};
