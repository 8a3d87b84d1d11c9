/** Stored weights back to float32: what a block computes with after it was quantized, here and in `serve`. */
import { dequantizeAffine } from "./affine.ts";
import { dequantizeLut } from "./lut.ts";
import type { StoredWeights } from "./method.ts";

/**
 * @returns float32 [outFeatures, inFeatures]
 * @throws where the weights are of another size
 */
export function dequantizeStored(weights: StoredWeights, outFeatures: number, inFeatures: number): Float32Array {
  const values = expand(weights);
  if (values.length === outFeatures * inFeatures) return values;
  throw new Error(`Cannot dequantize: received ${values.length} weights, expected ${outFeatures} x ${inFeatures}`);
}

function expand(weights: StoredWeights): Float32Array {
  switch (weights.family) {
    case "affine":
      return dequantizeAffine(weights);
    case "lut":
      return dequantizeLut(weights);
    case "dense":
      return weights.values;
  }
}
