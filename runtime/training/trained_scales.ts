/**
 * Scales of packed linears while they train (EfficientQAT's E2E-QP, arXiv 2407.11062): integers, zeros and the stored scales stay
 * where they are, and each group has a factor that starts at 1. So a learning rate is relative to the scale that it moves, and a
 * group costs 16 bytes besides its packed weights: factor, gradient and AdamW's two moments.
 */
import { type Context, WEIGHT_DENSE } from "../../ffi/mod.ts";
import type { Linear } from "../models/weights.ts";
import type { TrainableFactors } from "../ops/training.ts";
import { type GroupSettings, ParameterGroup } from "./parameters.ts";

/** Number of groups of a packed linear. */
export function groupCount({ weight }: Linear): number {
  return (weight.outFeatures * weight.inFeatures) / weight.group;
}

export class TrainedScales implements Disposable {
  readonly parameters: ParameterGroup;
  readonly trainable: ReadonlyMap<Linear, TrainableFactors>;

  /** @param linears packed ones */
  constructor(context: Context, linears: readonly Linear[], settings: GroupSettings) {
    const dense = linears.find(({ weight }) => weight.kind === WEIGHT_DENSE);
    if (dense) throw new Error(`Cannot train the scales of ${dense.name}: it is not packed`);
    this.parameters = new ParameterGroup(context, linears.map(groupCount), settings);
    this.trainable = new Map(
      linears.map((linear) => {
        const ones = new Float32Array(groupCount(linear)).fill(1);
        return [linear, this.parameters.place(ones)];
      }),
    );
  }

  /** The factors of a linear as they are now, float32 [out, in / group]. */
  read(linear: Linear): Float32Array {
    const factors = this.trainable.get(linear);
    if (!factors) throw new Error(`Cannot read the factors of ${linear.name}: its scales do not train`);
    const { buffer, offset } = factors.value;
    return buffer.download(new Float32Array(groupCount(linear)), offset);
  }

  [Symbol.dispose](): void {
    this.parameters[Symbol.dispose]();
  }
}
