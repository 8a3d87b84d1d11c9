/**
 * Trains the linears of a block part by part in forward order, so that each linear's output stays what it was (ApiQ-lw, arXiv
 * 2402.05147).
 */
import type { Ref } from "../../../ffi/mod.ts";
import { decoderBlock } from "../../models/decoder.ts";
import type { Linear } from "../../models/weights.ts";
import { matmul } from "../../ops/matmul.ts";
import { type TrainableLinear, TrainingOps, trainingArenaBytes } from "../../ops/training.ts";
import { Arena, type Tensor } from "../../tensor.ts";
import { calibrationOf } from "../calibration_of.ts";
import { FrozenLinears } from "../frozen.ts";
import { linearGroups } from "../gram.ts";
import type { BlockJob, CalibrationStream, QuantizedLinear, ScratchStream } from "../method.ts";
import { trainEpochs } from "./epochs.ts";
import { LinearTraining } from "./linear_training.ts";
import type { Recipe } from "./recipe.ts";
import type { StepOptions } from "./training_steps.ts";

/**
 * A part is the linears that share an input. Its target is what the full-precision linears give in the full-precision block, its
 * input what the quantized prefix and the parts before it give. With augLoss, what the full-precision linears make of that input
 * is a second target.
 */
export async function trainParts(job: BlockJob, recipe: Recipe): Promise<Map<string, QuantizedLinear>> {
  const results = new Map<string, QuantizedLinear>();
  using frozen = new FrozenLinears(job.context);
  for (const linears of linearGroups(job.block)) {
    const part = linears.filter((linear) => !job.kept.has(linear));
    if (part.length === 0) continue;
    using data = new PartData(job, part, frozen.trainable);
    // A bias is the same on both sides: it cancels.
    const unbiased = part.map((linear): Linear => ({ ...linear, bias: null }));
    using training = new LinearTraining(job, unbiased, recipe);
    const { inputs, targets } = data;
    const forward: StepOptions["forward"] = (ops, sample) =>
      ops.linear(ops.input(inputs.read(sample), false, inputs.hidden), unbiased);
    const name = part.map((linear) => linear.name).join(", ");
    await trainEpochs({ job, recipe, training, forward, targets, part: name });
    for (const [module, result] of training.result()) {
      results.set(module, result);
      frozen.add(part.find((linear) => linear.name === module) as Linear, result);
    }
  }
  return results;
}

/** Inputs and targets of a part for all samples, while it trains. */
class PartData implements Disposable {
  readonly inputs: ScratchStream;
  /** Of each linear, one or with augLoss two. */
  readonly targets: readonly (readonly ScratchStream[])[];

  /** @param frozen linears of the block that are quantized by now */
  constructor(job: BlockJob, part: readonly Linear[], frozen: ReadonlyMap<Linear, TrainableLinear>) {
    const { context, settings } = job;
    const calibration = calibrationOf(job);
    const { length } = calibration.inputs;
    this.inputs = calibration.scratch("part-inputs", part[0].weight.inFeatures);
    const kinds = settings.augLoss ? ["targets", "second-targets"] : ["targets"];
    this.targets = part.map(({ weight }, i) =>
      kinds.map((kind) => calibration.scratch(`part-${kind}-${i}`, weight.outFeatures)),
    );
    const widest = Math.max(...part.map(({ weight }) => weight.outFeatures));
    using product = context.alloc(length * widest * 4);
    const project = (x: Tensor, sample: number, kind: number): void => {
      for (const [i, { weight }] of part.entries()) {
        const { data, outFeatures: n, inFeatures: k } = weight;
        matmul(context, { a: x.ref, b: data as Ref, c: product.at(0), m: length, n, k, transposeB: true });
        this.targets[i][kind].write(sample, product.at(0));
      }
    };
    visitInputs(job, part, calibration.referenceInputs, new Map(), (x, sample) => project(x, sample, 0));
    visitInputs(job, part, calibration.inputs, frozen, (x, sample) => {
      this.inputs.write(sample, x.ref);
      if (settings.augLoss) project(x, sample, 1);
    });
  }

  [Symbol.dispose](): void {
    for (const stream of [this.inputs, ...this.targets.flat()]) stream[Symbol.dispose]();
  }
}

/** Runs the block on every sample of a stream and shows the part's input. */
function visitInputs(
  job: BlockJob,
  part: readonly Linear[],
  stream: CalibrationStream,
  trainable: ReadonlyMap<Linear, TrainableLinear>,
  see: (x: Tensor, sample: number) => void,
): void {
  const { context, config, block, layer, inverseFrequencies, settings } = job;
  const { rank, dora } = settings;
  using buffer = context.alloc(trainingArenaBytes(config, 1, stream.length, false, { rank, dora }));
  let sample = 0;
  using ops = new TrainingOps({
    context,
    config,
    arena: new Arena(buffer),
    sequences: 1,
    length: stream.length,
    inverseFrequencies,
    trainable,
    onLinear: (linears, x) => {
      if (linears.includes(part[0])) see(x, sample);
    },
  });
  for (; sample < stream.samples; sample++) {
    ops.begin(false);
    decoderBlock(ops, config, block, layer, ops.input(stream.read(sample)));
  }
}
