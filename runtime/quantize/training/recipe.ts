/** What distinguishes the methods that train: which parameters there are, and how they make a weight. */
import type { Context, Ref } from "../../../ffi/mod.ts";
import type { Linear } from "../../models/weights.ts";
import type { GroupSettings, ParameterGroup } from "../../training/parameters.ts";
import type { MethodSettings } from "../method.ts";
import type { InitialLora, LoraTraining } from "./lora.ts";
import type { QuantizerShape, WeightQuantizer } from "./weight_quantizer.ts";

/** Parameters of the quantizer that share a learning rate. */
export interface QuantizerGroup {
  readonly settings: GroupSettings;
  /** Elements of each tensor that one linear places in the group, in order. */
  readonly sizes: (shape: QuantizerShape) => readonly number[];
}

/** The lowest and highest value of each group, [out, in / group]. */
export interface Range {
  readonly low: Float32Array;
  readonly high: Float32Array;
}

/** Where the quantizer of one linear starts. */
export interface QuantizerStart {
  /** float32 [out, in]: the matrix to quantize, which stays until the quantizer is disposed. */
  readonly w: Ref;
  readonly shape: QuantizerShape;
  /** What the quantizer is to cover at first; null: the ranges of w. */
  readonly range: Range | null;
}

export interface Recipe {
  /** Whether LoRA trains along, at a rank above 0. */
  readonly lora: boolean;
  /** Rounds to what is stored; false follows published code exactly, for comparison with it. */
  readonly storable: boolean;
  readonly groups: (settings: MethodSettings) => readonly QuantizerGroup[];
  /** @param groups one for each of `groups`, in order */
  readonly quantizer: (context: Context, start: QuantizerStart, groups: readonly ParameterGroup[]) => WeightQuantizer;
  /** Overrides how LoRA starts. */
  readonly initialLora?: (linear: Linear) => InitialLora;
  /** Sees every step's loss, with the gradients and the parameters that gave it. */
  readonly onStep?: (step: number, loss: number, training: TrainingView) => void;
  /** Sees the trained parameters. */
  readonly onEnd?: (training: TrainingView) => void;
}

/** What there is to see of a step. */
export interface TrainingView {
  readonly quantizers: ReadonlyMap<Linear, WeightQuantizer>;
  readonly loras: ReadonlyMap<Linear, LoraTraining>;
}
