/**
 * The affine storage family, w = scale (q - zero): plain min-max quantization, and the way from device tensors to stored weights.
 */
import type { Context, Ref } from "../../ffi/mod.ts";
import type { AffineWeights } from "./method.ts";

/** One linear's quantizer parameters on the device, groups along `in`. */
export interface AffineParameters {
  /** float32 [out, in / group], positive; float16 values where they are to be stored */
  readonly scale: Ref;
  /** float32 [out, in / group] */
  readonly zero: Ref;
}

export interface AffineShape {
  readonly outFeatures: number;
  readonly inFeatures: number;
  readonly bits: AffineWeights["bits"];
  readonly group: AffineWeights["group"];
}

/**
 * Rounds to nearest under the range of each group, extended to 0.
 * @param w float32 [out, in], left as it is
 * @returns q uint8 [out, in]; scales (float16 values) and zeros (whole numbers) [out, in / group]
 */
export function minMaxQuantize(
  context: Context,
  w: Ref,
  outFeatures: number,
  inFeatures: number,
  bits: AffineWeights["bits"],
  group: AffineWeights["group"],
): { q: Uint8Array; scales: Float32Array; zeros: Float32Array } {
  const count = (outFeatures * inFeatures) / group;
  using buffer = context.alloc(4 * 4 * count);
  const [low, high, scale, zero] = [0, 1, 2, 3].map((i) => buffer.at(i * 4 * count));
  context.groupRange({ w, low, high, outFeatures, inFeatures, group, includeZero: 1 });
  context.clipRange({ low, high, lowFactor: null, highFactor: null, scale, zero, count, bits, roundScale: 1 });
  return readAffine(context, w, { scale, zero }, { outFeatures, inFeatures, bits, group });
}

/** Bytes of device memory that minMaxQuantize takes for this many weights. */
export function minMaxBytes(count: number, group: number): number {
  return count + (4 * 4 * count) / group;
}

/**
 * What is stored of weights under given parameters: the scales as they are, zeros and values rounded and clamped to their bits.
 * @param w float32 [out, in], left as it is
 */
export function readAffine(
  context: Context,
  w: Ref,
  { scale, zero }: AffineParameters,
  shape: AffineShape,
): AffineWeights {
  const { outFeatures, inFeatures, bits, group } = shape;
  using buffer = context.alloc(outFeatures * inFeatures);
  const q = buffer.at(0);
  context.fakeQuantize({ w, scale, zero, y: null, q, outFeatures, inFeatures, group, bits, clampZero: 1 });
  const groups = (outFeatures * inFeatures) / group;
  const scales = scale.buffer.download(new Float32Array(groups), scale.offset);
  const zeros = zero.buffer.download(new Float32Array(groups), zero.offset);
  const last = 2 ** bits - 1;
  return {
    family: "affine",
    bits,
    group,
    q: buffer.download(new Uint8Array(outFeatures * inFeatures)),
    scales,
    zero: "integer",
    zeros: zeros.map((value) => Math.min(Math.max(roundToEven(value), 0), last)),
  };
}

/** To the nearest whole number as the kernels round: halves to the even one. */
function roundToEven(value: number): number {
  const up = Math.round(value);
  return up - value === 0.5 && up % 2 !== 0 ? up - 1 : up;
}

/** float32 [out, in]: scale (q - zero), or fma(scale, q, zero) where zeros are floats, as the kernels compute them. */
export function dequantizeAffine({ q, scales, zeros, zero, group }: AffineWeights): Float32Array<ArrayBuffer> {
  const values = new Float32Array(q.length);
  const integer = zero === "integer";
  for (let g = 0, i = 0; i < q.length; g++) {
    const scale = scales[g];
    const offset = zeros[g];
    // Products and sums of these float16 values and small integers are exact in double precision.
    for (const end = i + group; i < end; i++) values[i] = integer ? scale * (q[i] - offset) : scale * q[i] + offset;
  }
  return values;
}
