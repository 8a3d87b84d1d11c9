/**
 * NormalFloat: every weight becomes the nearest level of a table made for normally distributed numbers, scaled by its group's
 * largest magnitude. No data, no LoRA: the base that QLoRA finetunes on.
 */
import { blockLinears } from "../../models/weights.ts";
import { readDense } from "../dense.ts";
import { nfTable, quantizeLut } from "../lut.ts";
import type { QuantizationMethod, QuantizedLinear } from "../method.ts";

/** nf4, nf3 and nf2; the bits are the name's, whatever the settings say. */
export const nfMethods: readonly QuantizationMethod[] = ([4, 3, 2] as const).map((bits) => ({
  name: `nf${bits}`,
  summary: `nearest of ${2 ** bits} normal quantiles per group, no data`,
  source: bits === 4 ? "arXiv 2305.14314, section 3" : "arXiv 2310.08659, section 3, after arXiv 2305.14314",
  needsCalibration: false,
  uses: ["bits", "group", "doubleQuantization"],
  workingBytes: () => 0,
  async quantizeBlock({ block, settings, kept, report }) {
    const { group, doubleQuantization } = settings;
    const table = nfTable(bits);
    const result = new Map<string, QuantizedLinear>();
    const linears = blockLinears(block).filter((linear) => !kept.has(linear));
    for (const [step, linear] of linears.entries()) {
      await report({ part: linear.name, epoch: 1, epochs: 1, step, steps: linears.length, loss: null });
      const shape = [linear.weight.outFeatures, linear.weight.inFeatures] as const;
      result.set(linear.name, {
        weights: quantizeLut(readDense(linear), shape, group, table, doubleQuantization),
        lora: null,
      });
    }
    return result;
  },
}));
