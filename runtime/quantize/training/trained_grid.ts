/**
 * Weights, scales and zeros that all train (EfficientQAT's Block-AP, arXiv 2407.11062). Scales are trained as factors of their
 * first values and zeros in steps, so that one learning rate means the same for every group whatever the size of its weights:
 *
 *   scale = factor * first scale,  z = clamp(round(zero)),  weight = scale (clamp(round(w / scale) + z) - z)
 *
 * where clamps are to 0 .. 2^bits - 1 and rounding has derivative 1.
 */
import type { Context, Ref } from "../../../ffi/mod.ts";
import type { ParameterGroup } from "../../training/parameters.ts";
import { readAffine } from "../affine.ts";
import { roundToHalf } from "../lut.ts";
import type { AffineWeights } from "../method.ts";
import type { QuantizerStart } from "./recipe.ts";
import { groupsOf, type QuantizerShape, vectors, type WeightQuantizer } from "./weight_quantizer.ts";

/** A scale keeps at least this part of its first value. */
const LEAST_FACTOR = 0.01;

export class TrainedGrid implements WeightQuantizer {
  readonly #context: Context;
  readonly #shape: QuantizerShape;
  readonly #firstScale: Ref;
  readonly #scale: Ref;
  readonly #dscale: Ref;
  readonly #w: { value: Ref; gradient: Ref };
  readonly #factor: { value: Ref; gradient: Ref };
  readonly #zero: { value: Ref; gradient: Ref };
  readonly #owned: Disposable[];
  readonly weight: Ref;

  static weightSizes({ outFeatures, inFeatures }: QuantizerShape): readonly number[] {
    return [outFeatures * inFeatures];
  }

  static gridSizes(shape: QuantizerShape): readonly number[] {
    return [groupsOf(shape), groupsOf(shape)];
  }

  /** Starts from `w` under the given ranges, or its own. */
  constructor(context: Context, weights: ParameterGroup, grid: ParameterGroup, { w, shape, range }: QuantizerStart) {
    this.#context = context;
    this.#shape = shape;
    const { outFeatures, inFeatures, group, bits } = shape;
    const count = groupsOf(shape);
    const elements = outFeatures * inFeatures;
    const state = vectors(context, count, 3);
    const weight = context.alloc(elements * 4);
    this.#owned = [state, weight];
    this.weight = weight.at(0);
    [this.#firstScale, this.#scale, this.#dscale] = state.refs;
    this.#w = weights.place(w.buffer.download(new Float32Array(elements), w.offset));

    using first = vectors(context, count, 3);
    const [low, high, zero] = first.refs;
    if (range) {
      low.buffer.upload(range.low, low.offset);
      high.buffer.upload(range.high, high.offset);
    } else context.groupRange({ w, low, high, outFeatures, inFeatures, group, includeZero: 1 });
    const scale = this.#firstScale;
    context.clipRange({ low, high, lowFactor: null, highFactor: null, scale, zero, count, bits, roundScale: 1 });
    this.#factor = grid.place(new Float32Array(count).fill(1));
    this.#zero = grid.place(zero.buffer.download(new Float32Array(count), zero.offset));
  }

  get #operands() {
    return { ...this.#shape, w: this.#w.value, scale: this.#scale, zero: this.#zero.value, clampZero: 1 };
  }

  prepare(): void {
    const cols = groupsOf(this.#shape);
    this.#context.scaleColumns({ x: this.#firstScale, scale: this.#factor.value, y: this.#scale, rows: 1, cols });
    this.#context.fakeQuantize({ ...this.#operands, y: this.weight, q: null });
  }

  backward(dweight: Ref): void {
    const cols = groupsOf(this.#shape);
    const [dscale, dzero] = [this.#dscale, this.#zero.gradient];
    const dw = this.#w.gradient;
    this.#context.fakeQuantizeBackward({ ...this.#operands, dy: dweight, dw, dscale, dzero, edgesInside: 1 });
    this.#context.scaleColumns({ x: dscale, scale: this.#firstScale, y: this.#factor.gradient, rows: 1, cols });
  }

  read(): AffineWeights {
    const count = groupsOf(this.#shape);
    const download = (ref: Ref): Float32Array => ref.buffer.download(new Float32Array(count), ref.offset);
    const factors = download(this.#factor.value);
    const first = download(this.#firstScale);
    const scales = first.map((scale, g) => scale * Math.max(factors[g], LEAST_FACTOR));
    this.#scale.buffer.upload(roundToHalf(scales), this.#scale.offset);
    return readAffine(this.#context, this.#w.value, { scale: this.#scale, zero: this.#zero.value }, this.#shape);
  }

  [Symbol.dispose](): void {
    for (const owned of this.#owned) owned[Symbol.dispose]();
  }
}
