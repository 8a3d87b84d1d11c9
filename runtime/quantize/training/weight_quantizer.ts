/** How the weight of a linear becomes the one a training step computes with. */
import type { Context, Ref } from "../../../ffi/mod.ts";
import type { AffineWeights } from "../method.ts";

export interface QuantizerShape {
  readonly outFeatures: number;
  readonly inFeatures: number;
  readonly bits: AffineWeights["bits"];
  readonly group: AffineWeights["group"];
}

export interface WeightQuantizer extends Disposable {
  /** float32 [out, in]: the quantized weight. After `prepare` it is the step's to change. */
  readonly weight: Ref;
  /** Computes `weight` from the parameters, anew for each step. */
  prepare(): void;
  /** From the gradient of `weight`, float32 [out, in], which it may overwrite, those of the parameters. */
  backward(dweight: Ref): void;
  /** What is stored. */
  read(): AffineWeights;
}

export type GroupedShape = Pick<QuantizerShape, "outFeatures" | "inFeatures"> & { readonly group: number };

export function groupsOf({ outFeatures, inFeatures, group }: GroupedShape): number {
  return (outFeatures * inFeatures) / group;
}

/** Bytes of `vectors`. */
export function vectorBytes(count: number, howMany: number): number {
  return howMany * strideOf(count);
}

function strideOf(count: number): number {
  return Math.ceil((count * 4) / 64) * 64;
}

/** Consecutive float32 vectors of `count` elements in one buffer. */
export function vectors(context: Context, count: number, howMany: number): { refs: Ref[] } & Disposable {
  const stride = strideOf(count);
  const buffer = context.alloc(vectorBytes(count, howMany));
  return {
    refs: Array.from({ length: howMany }, (_, i) => buffer.at(i * stride)),
    [Symbol.dispose]: () => buffer[Symbol.dispose](),
  };
}
