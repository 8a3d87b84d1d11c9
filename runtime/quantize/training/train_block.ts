/**
 * Trains all linears of a block together, so that its output stays what it was (ApiQ-bw, arXiv 2402.05147; OmniQuant, arXiv
 * 2308.13137).
 */
import { decoderBlock } from "../../models/decoder.ts";
import { blockLinears } from "../../models/weights.ts";
import { BlockForward } from "../block_forward.ts";
import { calibrationOf } from "../calibration_of.ts";
import type { BlockJob, QuantizedLinear, ScratchStream } from "../method.ts";
import { trainEpochs } from "./epochs.ts";
import { LinearTraining } from "./linear_training.ts";
import type { Recipe } from "./recipe.ts";
import type { StepOptions } from "./training_steps.ts";

/**
 * Adam's steps over the calibration samples, one at a time and in order: the target is the full-precision block on the full-
 * precision stream, the input the quantized prefix; with augLoss the full-precision block on that input is a second target.
 */
export async function trainBlock(job: BlockJob, recipe: Recipe): Promise<Map<string, QuantizedLinear>> {
  const { config, block, layer, kept, settings } = job;
  const linears = blockLinears(block).filter((linear) => !kept.has(linear));
  if (linears.length === 0) return new Map();
  const { inputs, targets } = calibrationOf(job);
  using second = settings.augLoss ? blockOutputs(job) : null;
  using training = new LinearTraining(job, linears, recipe);
  const forward: StepOptions["forward"] = (ops, sample) => [
    decoderBlock(ops, config, block, layer, ops.input(inputs.read(sample))),
  ];
  const wanted = second ? [targets, second] : [targets];
  await trainEpochs({ job, recipe, training, forward, targets: [wanted], part: null });
  return training.result();
}

/** The full-precision block on the quantized prefix's output. */
function blockOutputs(job: BlockJob): ScratchStream {
  const { context, config, block, layer, inverseFrequencies } = job;
  const { inputs, scratch } = calibrationOf(job);
  const outputs = scratch("second-targets", inputs.hidden);
  using forward = new BlockForward(context, config, inputs.length, inverseFrequencies);
  for (let sample = 0; sample < inputs.samples; sample++) {
    outputs.write(sample, forward.run(block, layer, inputs.read(sample)));
  }
  return outputs;
}
