/** Inverse frequencies of rotary position embeddings (RoFormer, arXiv 2104.09864), float32 as transformers computes them. */
import type { RopeSettings } from "./config.ts";

/**
 * The angle of dimension pair i at position p is p * result[i].
 * @returns float32 [headDim / 2]
 */
export function inverseFrequencies(rope: RopeSettings, headDim: number): Float32Array {
  const half = headDim / 2;
  const base = Float32Array.from(
    { length: half },
    (_, i) => 1 / Math.fround(rope.theta ** Math.fround((2 * i) / headDim)),
  );
  const { scaling } = rope;
  switch (scaling.type) {
    case "default":
      return base;
    case "linear":
      return base.map((frequency) => frequency / scaling.factor);
    case "llama3":
      return base.map((frequency) => stretch(frequency, scaling));
  }
}

/**
 * Llama 3.1's rule: wavelengths beyond the original context are stretched by `factor`, short ones are kept, those between are
 * blended linearly in (original context / wavelength).
 */
function stretch(frequency: number, scaling: Extract<RopeSettings["scaling"], { type: "llama3" }>): number {
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = scaling;
  const wavelength = (2 * Math.PI) / frequency;
  if (wavelength < originalMaxPositions / highFreqFactor) return frequency;
  if (wavelength > originalMaxPositions / lowFreqFactor) return frequency / factor;
  const smooth = (originalMaxPositions / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
  return ((1 - smooth) * frequency) / factor + smooth * frequency;
}
