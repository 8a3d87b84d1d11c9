import type { DecoderConfig } from "../models/config.ts";

/** [out, in] of a linear. */
export type LinearShape = readonly [outFeatures: number, inFeatures: number];

/** The seven linears of a block in forward order, those with one input together: q, k, v; o; gate, up; down. */
export function groupShapes(config: DecoderConfig): readonly (readonly LinearShape[])[] {
  const { hiddenSize: hidden, intermediateSize: inter, headDim } = config;
  const queries = config.heads * headDim;
  const keys = config.kvHeads * headDim;
  return [
    [
      [queries, hidden],
      [keys, hidden],
      [keys, hidden],
    ],
    [[hidden, queries]],
    [
      [inter, hidden],
      [inter, hidden],
    ],
    [[hidden, inter]],
  ];
}

export function linearShapes(config: DecoderConfig): readonly LinearShape[] {
  return groupShapes(config).flat();
}

/** Weights of the largest linear. */
export function largestLinear(config: DecoderConfig): number {
  return Math.max(...linearShapes(config).map(([outFeatures, inFeatures]) => outFeatures * inFeatures));
}
