/** Device memory that training takes besides a block's weights and the calibration streams, for --dry-run. */
import type { DecoderConfig } from "../../models/config.ts";
import { trainingArenaBytes } from "../../ops/training.ts";
import type { MethodSettings } from "../method.ts";
import { parameterBytes } from "./parameters.ts";
import type { Recipe } from "./recipe.ts";

/** [out, in] of the seven linears of a block, in forward order. */
export function linearShapes(config: DecoderConfig): readonly (readonly [number, number])[] {
  const { hiddenSize: hidden, intermediateSize: inter, headDim } = config;
  const queries = config.heads * headDim;
  const keys = config.kvHeads * headDim;
  return [
    [queries, hidden],
    [keys, hidden],
    [keys, hidden],
    [hidden, queries],
    [inter, hidden],
    [inter, hidden],
    [hidden, inter],
  ];
}

/** For a whole block trained at once. The second targets of augLoss, one more stream, are not in it. */
export function trainingBytes(config: DecoderConfig, settings: MethodSettings, length: number, recipe: Recipe): number {
  const { bits, group, rank, dora } = settings;
  const lora = recipe.lora && dora ? { rank, dora } : {};
  const shapes = linearShapes(config).map(([outFeatures, inFeatures]) => ({ outFeatures, inFeatures, bits, group }));
  const sizes = shapes.map(({ outFeatures, inFeatures }) => outFeatures * inFeatures);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const quantized = 4 * (total + Math.max(...sizes));
  const quantizers = 5 * 4 * (total / group);
  const parameters = recipe.groups(settings).map(({ sizes }) => parameterBytes(shapes.flatMap(sizes)));
  const loraSizes = shapes.map(({ outFeatures, inFeatures }) => rank * (outFeatures + inFeatures));
  const loraBytes = recipe.lora ? parameterBytes(loraSizes) : 0;
  const arena = trainingArenaBytes(config, 1, length, true, lora) + length * config.hiddenSize * 4;
  return quantized + quantizers + parameters.reduce((sum, bytes) => sum + bytes, 0) + loraBytes + arena;
}
