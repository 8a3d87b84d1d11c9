/** Round to nearest: every group gets the scale and zero of its smallest and largest weight. No data, no LoRA. */
import { blockLinears } from "../../models/weights.ts";
import { minMaxBytes, minMaxQuantize } from "../affine.ts";
import { bitsOf } from "../bits_for.ts";
import { largestLinear } from "../linear_shapes.ts";
import type { QuantizationMethod, QuantizedLinear } from "../method.ts";

export const rtnMethod: QuantizationMethod = {
  name: "rtn",
  summary: "round to nearest: min-max per group, no data",
  source: "arXiv 1712.05877, section 2",
  needsCalibration: false,
  uses: ["bits", "bitsFor", "group"],
  workingBytes: (config, { group }) => minMaxBytes(largestLinear(config), group),
  async quantizeBlock(job) {
    const { context, block, settings, kept, report } = job;
    const { group } = settings;
    const result = new Map<string, QuantizedLinear>();
    const linears = blockLinears(block).filter((linear) => !kept.has(linear));
    for (const [step, linear] of linears.entries()) {
      const { name, weight } = linear;
      const bits = bitsOf(job, linear);
      await report({ part: name, epoch: 1, epochs: 1, step, steps: linears.length, loss: null });
      const { outFeatures, inFeatures } = weight;
      const { q, scales, zeros } = minMaxQuantize(context, weight.data!, outFeatures, inFeatures, bits, group);
      result.set(name, { weights: { family: "affine", bits, group, q, scales, zero: "integer", zeros }, lora: null });
    }
    return result;
  },
};
