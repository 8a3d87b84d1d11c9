/** ApiQ, layer-wise: LoRA and learned clipping of linears that share an input trained together, in forward order. */
import type { QuantizationMethod } from "../method.ts";
import { CLIPPING } from "../training/clipping_recipe.ts";
import { trainParts } from "../training/train_parts.ts";
import { trainingBytes } from "../training/working_bytes.ts";

export const apiqLwMethod: QuantizationMethod = {
  name: "apiq-lw",
  summary: "LoRA and clipping trained together, linear by linear, to preserve activations",
  source: "arXiv 2402.05147",
  needsCalibration: true,
  workingBytes: (config, settings, length) => trainingBytes(config, settings, length, { ...CLIPPING, lora: true }),
  quantizeBlock: (job) => trainParts(job, { ...CLIPPING, lora: true }),
};
