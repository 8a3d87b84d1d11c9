/** Device memory that training takes besides a block's weights and streams, for --dry-run. */
import type { DecoderConfig } from "../../models/config.ts";
import { trainingArenaBytes } from "../../ops/training.ts";
import { parameterBytes } from "../../training/parameters.ts";
import { groupShapes, type LinearShape, linearShapes } from "../linear_shapes.ts";
import type { MethodSettings } from "../method.ts";
import type { Recipe } from "./recipe.ts";

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** Of `trainBlock`. */
export function blockBytes(config: DecoderConfig, settings: MethodSettings, length: number, recipe: Recipe): number {
  const outputs = length * config.hiddenSize * 4;
  return linearsBytes(linearShapes(config), settings, recipe) + arenaBytes(config, settings, length, recipe) + outputs;
}

/** Of `trainParts`, in the part that takes most, beside the linears before it. */
export function partsBytes(config: DecoderConfig, settings: MethodSettings, length: number, recipe: Recipe): number {
  const arena = arenaBytes(config, settings, length, recipe);
  const rank = recipe.lora ? settings.rank : 0;
  let before = 0;
  let most = 0;
  for (const part of groupShapes(config)) {
    const outputs = length * sum(part.map(([outFeatures]) => outFeatures)) * 4;
    most = Math.max(most, before + linearsBytes(part, settings, recipe) + arena + outputs);
    before += 4 * sum(part.map(([out, into]) => out * into + rank * (out + into)));
  }
  return most;
}

/** Quantized weights and one gradient, the quantizers' state, and all parameters with what AdamW keeps of them. */
function linearsBytes(linears: readonly LinearShape[], settings: MethodSettings, recipe: Recipe): number {
  const { bits, group, rank } = settings;
  const shapes = linears.map(([outFeatures, inFeatures]) => ({ outFeatures, inFeatures, bits, group }));
  const sizes = shapes.map(({ outFeatures, inFeatures }) => outFeatures * inFeatures);
  const quantized = 4 * (sum(sizes) + Math.max(...sizes));
  const quantizers = 6 * 4 * (sum(sizes) / group);
  const parameters = recipe.groups(settings).map(({ sizes }) => parameterBytes(shapes.flatMap(sizes)));
  const lora = recipe.lora ? parameterBytes(linears.map(([out, into]) => rank * (out + into))) : 0;
  return quantized + quantizers + sum(parameters) + lora;
}

function arenaBytes(config: DecoderConfig, { rank, dora }: MethodSettings, length: number, { lora }: Recipe): number {
  return trainingArenaBytes(config, 1, length, true, lora && dora ? { rank, dora } : {});
}

/** Scratch streams of `trainBlock`: with augLoss, second targets. */
export function blockScratchWidths({ hiddenSize }: DecoderConfig, { augLoss }: MethodSettings): readonly number[] {
  return augLoss ? [hiddenSize] : [];
}

/** Scratch streams of `trainParts` in the part with the widest: its input, and for each linear one target or with augLoss two. */
export function partsScratchWidths(config: DecoderConfig, { augLoss }: MethodSettings): readonly number[] {
  const parts = groupShapes(config).map((part) => {
    const outputs = part.map(([outFeatures]) => outFeatures);
    return [part[0][1], ...outputs, ...(augLoss ? outputs : [])];
  });
  return parts.reduce((widest, part) => (sum(part) > sum(widest) ? part : widest));
}
