/**
 * Learned weight clipping (OmniQuant, arXiv 2308.13137; ApiQ, arXiv 2402.05147): the weight is frozen, the range of each group
 * shrinks by sigmoids of trained factors, and rounding passes gradients straight through. With [low, high] the range of a group and
 * l = sigmoid(low factor) low, h = sigmoid(high factor) high:
 *
 *   scale = (h - l) / (2^bits - 1),  zero = round(-l / scale),  weight = scale (clamp(round(w / scale) + zero) - zero)
 */
import type { Context, Ref } from "../../../ffi/mod.ts";
import type { ParameterGroup } from "../../training/parameters.ts";
import { readAffine } from "../affine.ts";
import type { AffineWeights } from "../method.ts";
import type { QuantizerStart } from "./recipe.ts";
import { groupsOf, type QuantizerShape, vectors, type WeightQuantizer } from "./weight_quantizer.ts";

/** sigmoid(4) = 0.982: clipping begins almost off. */
export const INITIAL_FACTOR = 4;

export class LearnedClipping implements WeightQuantizer {
  readonly #context: Context;
  readonly #w: Ref;
  readonly #shape: QuantizerShape;
  readonly #storable: 0 | 1;
  readonly #low: Ref;
  readonly #high: Ref;
  readonly #scale: Ref;
  readonly #zero: Ref;
  readonly #dscale: Ref;
  readonly #lowFactor: { value: Ref; gradient: Ref };
  readonly #highFactor: { value: Ref; gradient: Ref };
  readonly #owned: Disposable[];
  readonly weight: Ref;

  /** Sizes of the two tensors that it takes from a parameter group. */
  static parameterSizes(shape: QuantizerShape): readonly number[] {
    return [groupsOf(shape), groupsOf(shape)];
  }

  /**
   * @param storable rounds scales to float16 and extends ranges to 0, as storage needs it; false follows the published code
   * exactly
   */
  constructor(context: Context, parameters: ParameterGroup, { w, shape, range }: QuantizerStart, storable: boolean) {
    this.#context = context;
    this.#w = w;
    this.#shape = shape;
    this.#storable = storable ? 1 : 0;
    const groups = groupsOf(shape);
    const state = vectors(context, groups, 5);
    const weight = context.alloc(shape.outFeatures * shape.inFeatures * 4);
    this.#owned = [state, weight];
    this.weight = weight.at(0);
    [this.#low, this.#high, this.#scale, this.#zero, this.#dscale] = state.refs;
    const factors = new Float32Array(groups).fill(INITIAL_FACTOR);
    this.#highFactor = parameters.place(factors);
    this.#lowFactor = parameters.place(factors);
    if (range) {
      // What the initial factors leave of these is the range that was asked for.
      const kept = 1 / (1 + Math.exp(-INITIAL_FACTOR));
      const widen = (values: Float32Array): Float32Array => values.map((value) => value / kept);
      this.#low.buffer.upload(widen(range.low), this.#low.offset);
      this.#high.buffer.upload(widen(range.high), this.#high.offset);
      return;
    }
    const { outFeatures, inFeatures, group } = shape;
    const [low, high, includeZero] = [this.#low, this.#high, this.#storable];
    context.groupRange({ w, low, high, outFeatures, inFeatures, group, includeZero });
  }

  prepare(): void {
    const { outFeatures, inFeatures, group, bits } = this.#shape;
    this.#context.clipRange({
      low: this.#low,
      high: this.#high,
      lowFactor: this.#lowFactor.value,
      highFactor: this.#highFactor.value,
      scale: this.#scale,
      zero: this.#zero,
      count: groupsOf(this.#shape),
      bits,
      roundScale: this.#storable,
    });
    this.#context.fakeQuantize({
      w: this.#w,
      scale: this.#scale,
      zero: this.#zero,
      y: this.weight,
      q: null,
      outFeatures,
      inFeatures,
      group,
      bits,
      clampZero: this.#storable,
    });
  }

  backward(dweight: Ref): void {
    const { outFeatures, inFeatures, group, bits } = this.#shape;
    this.#context.fakeQuantizeBackward({
      w: this.#w,
      scale: this.#scale,
      zero: this.#zero,
      dy: dweight,
      dw: null,
      dscale: this.#dscale,
      dzero: null,
      outFeatures,
      inFeatures,
      group,
      bits,
      clampZero: this.#storable,
      edgesInside: 0,
    });
    this.#context.clipRangeBackward({
      low: this.#low,
      high: this.#high,
      lowFactor: this.#lowFactor.value,
      highFactor: this.#highFactor.value,
      dscale: this.#dscale,
      dlowFactor: this.#lowFactor.gradient,
      dhighFactor: this.#highFactor.gradient,
      count: groupsOf(this.#shape),
      bits,
    });
  }

  /** The trained factors and their gradients, [out, in / group] each. */
  factors(): Record<"low" | "high" | "dlow" | "dhigh", Float32Array> {
    const read = (ref: Ref): Float32Array => ref.buffer.download(new Float32Array(groupsOf(this.#shape)), ref.offset);
    const [low, high] = [this.#lowFactor, this.#highFactor];
    return { low: read(low.value), high: read(high.value), dlow: read(low.gradient), dhigh: read(high.gradient) };
  }

  read(): AffineWeights {
    this.prepare();
    return readAffine(this.#context, this.#w, { scale: this.#scale, zero: this.#zero }, this.#shape);
  }

  [Symbol.dispose](): void {
    for (const owned of this.#owned) owned[Symbol.dispose]();
  }
}
