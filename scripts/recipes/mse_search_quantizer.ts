/**
 * A quantizer of one's own, for `apiq quantize SRC --out DIR --quantizer scripts/recipes/mse_search_quantizer.ts --bits 3`: every group
 * tries ranges from its full one down to 60 % of it, and takes the one whose rounding moves its weights least (squared). It yields
 * the affine family, so that the result is packed, served and finetuned like that of any built-in method.
 */
import type { AffineWeights } from "../../runtime/quantize/method.ts";
import type { QuantizerInfo, UserQuantizer } from "../../runtime/quantize/user_quantizer.ts";

const SHRINKS = Array.from({ length: 21 }, (_, i) => 1 - 0.02 * i);

const quantizer: UserQuantizer = {
  name: "mse-search",
  quantize: (values: Float32Array, { outFeatures, inFeatures, bits, group }: QuantizerInfo): AffineWeights => {
    const groups = (outFeatures * inFeatures) / group;
    const q = new Uint8Array(values.length);
    const scales = new Float32Array(groups);
    const zeros = new Float32Array(groups);
    for (let g = 0; g < groups; g++) {
      const cells = values.subarray(g * group, (g + 1) * group);
      const best = search(cells, bits);
      scales[g] = best.scale;
      zeros[g] = best.zero;
      for (let i = 0; i < group; i++) q[g * group + i] = round(cells[i]!, best, bits);
    }
    return { family: "affine", bits, group, q, scales, zero: "integer", zeros };
  },
};

export default quantizer;

interface Range {
  /** A float16 value: that is how scales are stored. */
  readonly scale: number;
  readonly zero: number;
}

function search(cells: Float32Array, bits: number): Range {
  const low = Math.min(0, ...cells);
  const high = Math.max(0, ...cells);
  let best: Range = { scale: 1, zero: 0 };
  let least = Number.POSITIVE_INFINITY;
  for (const shrink of SHRINKS) {
    const range = rangeOf(low * shrink, high * shrink, bits);
    const error = cells.reduce((sum, w) => sum + (w - range.scale * (round(w, range, bits) - range.zero)) ** 2, 0);
    if (error < least) [best, least] = [range, error];
  }
  return best;
}

function rangeOf(low: number, high: number, bits: number): Range {
  const scale = new Float16Array([Math.max((high - low) / (2 ** bits - 1), 1e-5)])[0]!;
  return { scale, zero: Math.min(2 ** bits - 1, Math.max(0, Math.round(-low / scale))) };
}

function round(value: number, { scale, zero }: Range, bits: number): number {
  return Math.min(2 ** bits - 1, Math.max(0, Math.round(value / scale) + zero));
}
