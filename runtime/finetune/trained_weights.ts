/**
 * The weights of packed linears while they train (quantization-aware training): float32 values pass through the rounding that
 * makes the packed ones, with derivative 1 (runtime/quantize/training/trained_grid.ts); their scales and zeros train along. A
 * weight costs 20 bytes: value, gradient and AdamW's moments, and what it is rounded to.
 */
import { type Context, WEIGHT_AFFINE, type WeightShape, ZERO_INTEGER } from "../../ffi/mod.ts";
import type { Linear } from "../models/weights.ts";
import type { TrainableLinear } from "../ops/training.ts";
import { rangesOf } from "../quantize/training/cells.ts";
import { TrainedGrid } from "../quantize/training/trained_grid.ts";
import type { QuantizerShape } from "../quantize/training/weight_quantizer.ts";
import { type GroupSettings, ParameterGroup } from "../training/parameters.ts";
import type { FirstWeights } from "./first_weights.ts";

/** Whether the weights of a linear can train: others have integers of a table, or a minimum in place of a zero, or none. */
export function canTrain({ weight }: { readonly weight: Pick<WeightShape, "kind" | "zero"> }): boolean {
  return weight.kind === WEIGHT_AFFINE && weight.zero === ZERO_INTEGER;
}

function shapeOf({ weight }: Linear): QuantizerShape {
  const { outFeatures, inFeatures, bits, group } = weight;
  return { outFeatures, inFeatures, bits: bits as QuantizerShape["bits"], group: group as QuantizerShape["group"] };
}

export interface WeightSettings {
  readonly weights: GroupSettings;
  /** Of scales, relative to each, and of zeros, in steps. */
  readonly grid: GroupSettings;
}

export class TrainedWeights implements Disposable {
  readonly weights: ParameterGroup;
  readonly grid: ParameterGroup;
  /** Those that train, with how. */
  readonly linears: ReadonlyMap<Linear, TrainedGrid>;
  readonly #owned: Disposable[] = [];

  /** @param first called once for each linear, in order */
  constructor(
    context: Context,
    linears: readonly Linear[],
    first: (linear: Linear) => FirstWeights,
    settings: WeightSettings,
  ) {
    const shapes = linears.map(shapeOf);
    try {
      this.weights = this.#own(new ParameterGroup(context, shapes.flatMap(TrainedGrid.weightSizes), settings.weights));
      this.grid = this.#own(new ParameterGroup(context, shapes.flatMap(TrainedGrid.gridSizes), settings.grid));
      const gridOf = (linear: Linear, shape: QuantizerShape): TrainedGrid => {
        const { stored, values } = first(linear);
        using buffer = context.alloc(values.byteLength);
        buffer.upload(values);
        const start = { w: buffer.at(0), shape, range: rangesOf(stored) };
        return this.#own(new TrainedGrid(context, this.weights, this.grid, start));
      };
      this.linears = new Map(linears.map((linear, i) => [linear, gridOf(linear, shapes[i]!)]));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  #own<T extends Disposable>(value: T): T {
    this.#owned.push(value);
    return value;
  }

  /** How the training ops run a linear; undefined where it does not train. */
  trainable(linear: Linear): Pick<TrainableLinear, "weight" | "dweight"> | undefined {
    const grid = this.linears.get(linear);
    return grid && { weight: grid.weight, dweight: grid.dweight };
  }

  /** Values that train: weights, scales and zeros. */
  get count(): number {
    const sizes = [...this.linears.keys()].flatMap((linear) => {
      const shape = shapeOf(linear);
      return [...TrainedGrid.weightSizes(shape), ...TrainedGrid.gridSizes(shape)];
    });
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  /** Rounds: what the model computes with follows from the values as they are now. */
  prepare(): void {
    for (const grid of this.linears.values()) grid.prepare();
  }

  /** Makes the gradients of the rounded weights, which have added up, those of values, scales and zeros. */
  backward(): void {
    for (const grid of this.linears.values()) grid.backward(grid.dweight);
  }

  [Symbol.dispose](): void {
    for (const owned of this.#owned.splice(0).reverse()) owned[Symbol.dispose]();
  }
}
