/** The linears of a model that LoRA can be given to, without its files. */
import type { DecoderConfig } from "./config.ts";
import { blockShapes } from "./random.ts";

export interface NamedLinear {
  /** Hugging Face's module name. */
  readonly module: string;
  readonly outFeatures: number;
  readonly inFeatures: number;
}

/** Of all blocks, in forward order. */
export function linearNames(config: DecoderConfig): NamedLinear[] {
  const block = blockShapes(config);
  return Array.from({ length: config.layers }, (_, layer) =>
    block.map(([part, outFeatures, inFeatures]) => ({
      module: `model.layers.${layer}.${part}`,
      outFeatures,
      inFeatures,
    })),
  ).flat();
}
