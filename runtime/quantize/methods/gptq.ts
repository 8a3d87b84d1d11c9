/**
 * GPTQ: weights are rounded one column at a time, and what a column loses is made up for by the columns after it, as the Gram
 * matrix of the layer's inputs says.
 */
import { bitsOf } from "../bits_for.ts";
import type { QuantizationMethod } from "../method.ts";
import { liveWeights, optqBytes, optqQuantize, walkBytes, walkLinears } from "../optq.ts";

export const gptqMethod: QuantizationMethod = {
  name: "gptq",
  summary: "rounding with error feedback from calibration data (OPTQ)",
  source: "arXiv 2210.17323",
  needsCalibration: true,
  uses: ["bits", "bitsFor", "group", "damping"],
  workingBytes: (config, { group }, length) =>
    walkBytes(config, { rank: 0 }, length, (out, into) => 4 * out * into + optqBytes(out, into, group)),
  quantizeBlock(job) {
    const { context, settings } = job;
    return walkLinears(job, (linear, factor) => {
      const weights = liveWeights(linear, factor);
      using w = context.alloc(weights.byteLength);
      w.upload(weights);
      const shape = { bits: bitsOf(job, linear), group: settings.group };
      return { weights: optqQuantize(context, w, linear.weight.outFeatures, factor, shape), lora: null };
    });
  },
};
