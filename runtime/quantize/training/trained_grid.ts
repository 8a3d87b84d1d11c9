/**
 * Weights, scales and zeros that all train (EfficientQAT's Block-AP, arXiv 2407.11062). Scales are trained as factors of their
 * first values and zeros in steps, so that one learning rate means the same for every group whatever the size of its weights:
 *
 *   scale = float16(factor * first scale),  z = clamp(round(zero)),  weight = scale (clamp(round(w / scale) + z) - z)
 *
 * where clamps are to 0 .. 2^bits - 1 and rounding has derivative 1. So every step computes with what would be stored.
 */
import type { Context, Ref } from "../../../ffi/mod.ts";
import type { ParameterGroup } from "../../training/parameters.ts";
import { readAffine } from "../affine.ts";
import type { AffineWeights } from "../method.ts";
import type { QuantizerStart } from "./recipe.ts";
import {
  type GroupedShape,
  groupsOf,
  type QuantizerShape,
  vectorBytes,
  vectors,
  type WeightQuantizer,
} from "./weight_quantizer.ts";

/** Of a float for each group, besides what trains. */
const VECTORS = 6;

export class TrainedGrid implements WeightQuantizer {
  readonly #context: Context;
  readonly #shape: QuantizerShape;
  readonly #firstScale: Ref;
  /** What the integers of a group span: (2^bits - 1) scales, at first and now. */
  readonly #firstSpan: Ref;
  readonly #span: Ref;
  readonly #scale: Ref;
  /** Zeros: where spans begin. */
  readonly #low: Ref;
  /** The scales' gradients; before, the zeros of spans that begin at 0, which nobody reads. */
  readonly #dscale: Ref;
  readonly #w: { value: Ref; gradient: Ref };
  readonly #factor: { value: Ref; gradient: Ref };
  readonly #zero: { value: Ref; gradient: Ref };
  readonly #owned: Disposable[];
  readonly weight: Ref;

  /** Sizes of the tensors that it takes from the weights' group, and from the grid's. */
  static weightSizes({ outFeatures, inFeatures }: GroupedShape): readonly number[] {
    return [outFeatures * inFeatures];
  }

  static gridSizes(shape: GroupedShape): readonly number[] {
    return [groupsOf(shape), groupsOf(shape)];
  }

  /** Device memory of its own, besides. */
  static derivedBytes(shape: GroupedShape): number {
    return 4 * shape.outFeatures * shape.inFeatures + vectorBytes(groupsOf(shape), VECTORS);
  }

  /** Starts from `w` under the given ranges, or its own. */
  constructor(context: Context, weights: ParameterGroup, grid: ParameterGroup, { w, shape, range }: QuantizerStart) {
    this.#context = context;
    this.#shape = shape;
    const { outFeatures, inFeatures, group, bits } = shape;
    const count = groupsOf(shape);
    const elements = outFeatures * inFeatures;
    const state = vectors(context, count, VECTORS);
    const weight = context.alloc(elements * 4);
    this.#owned = [state, weight];
    this.weight = weight.at(0);
    [this.#firstScale, this.#firstSpan, this.#span, this.#scale, this.#low, this.#dscale] = state.refs;
    this.#low.buffer.upload(new Float32Array(count), this.#low.offset);
    this.#w = weights.place(w.buffer.download(new Float32Array(elements), w.offset));

    using first = vectors(context, count, 3);
    const [low, high, zero] = first.refs;
    if (range) {
      low.buffer.upload(range.low, low.offset);
      high.buffer.upload(range.high, high.offset);
    } else context.groupRange({ w, low, high, outFeatures, inFeatures, group, includeZero: 1 });
    const scale = this.#firstScale;
    context.clipRange({ low, high, lowFactor: null, highFactor: null, scale, zero, count, bits, roundScale: 1 });
    const steps = 2 ** bits - 1;
    const spans = scale.buffer.download(new Float32Array(count), scale.offset).map((value) => steps * value);
    this.#firstSpan.buffer.upload(spans, this.#firstSpan.offset);
    this.#factor = grid.place(new Float32Array(count).fill(1));
    this.#zero = grid.place(zero.buffer.download(new Float32Array(count), zero.offset));
  }

  /** float32 [out, in], in the weights' group: where the gradient of `weight` may add up, for `backward` to make it that of w. */
  get dweight(): Ref {
    return this.#w.gradient;
  }

  get #operands() {
    return { ...this.#shape, w: this.#w.value, scale: this.#scale, zero: this.#zero.value, clampZero: 1 };
  }

  prepare(): void {
    this.#computeScale();
    this.#context.fakeQuantize({ ...this.#operands, y: this.weight, q: null });
  }

  /** To what `clipRange` makes of a span: at least 1e-5, rounded to float16. */
  #computeScale(): void {
    const count = groupsOf(this.#shape);
    const [high, low] = [this.#span, this.#low];
    this.#context.scaleColumns({ x: this.#firstSpan, scale: this.#factor.value, y: high, rows: 1, cols: count });
    const to = { scale: this.#scale, zero: this.#dscale, count, bits: this.#shape.bits, roundScale: 1 };
    this.#context.clipRange({ low, high, lowFactor: null, highFactor: null, ...to });
  }

  backward(dweight: Ref): void {
    const cols = groupsOf(this.#shape);
    const [dscale, dzero] = [this.#dscale, this.#zero.gradient];
    const dw = this.#w.gradient;
    this.#context.fakeQuantizeBackward({ ...this.#operands, dy: dweight, dw, dscale, dzero, edgesInside: 1 });
    this.#context.scaleColumns({ x: dscale, scale: this.#firstScale, y: this.#factor.gradient, rows: 1, cols });
  }

  /** What trains and its gradients: of the weights [out, in], of each group's factor and zero [out, in / group]. */
  parameters(): Record<"weights" | "factors" | "zeros", { values: Float32Array; gradients: Float32Array }> {
    const { outFeatures, inFeatures } = this.#shape;
    const groups = groupsOf(this.#shape);
    const both = ({ value, gradient }: { value: Ref; gradient: Ref }, count: number) => {
      const read = ({ buffer, offset }: Ref): Float32Array => buffer.download(new Float32Array(count), offset);
      return { values: read(value), gradients: read(gradient) };
    };
    const weights = both(this.#w, outFeatures * inFeatures);
    return { weights, factors: both(this.#factor, groups), zeros: both(this.#zero, groups) };
  }

  read(): AffineWeights {
    this.#computeScale();
    return readAffine(this.#context, this.#w.value, { scale: this.#scale, zero: this.#zero.value }, this.#shape);
  }

  [Symbol.dispose](): void {
    for (const owned of this.#owned) owned[Symbol.dispose]();
  }
}
