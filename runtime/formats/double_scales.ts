/**
 * Double quantization of the scales of a lut matrix (QLoRA, arXiv 2305.14314): what is left of them after their mean is taken off,
 * in 8 bits, with one float32 maximum for 256 of them.
 *
 *   scale[i] = (codes[i] - 128) / 127 * absmax[i / 256] + offset      codes 1 .. 255, i counting through [out, in/group]
 */
import { FormatError } from "./failure.ts";
import { floatsToHalves } from "./floats.ts";
import { readBytes, readTensor } from "./read.ts";
import type { StoredTensor } from "./safetensors.ts";

/** Scales that share one maximum. */
export const SCALE_BLOCK = 256;

export interface DoubleScales {
  readonly codes: Uint8Array;
  readonly absmax: Float32Array;
  readonly offset: number;
}

/** The scales that the codes stand for, before rounding to float16. */
export function decodeScales({ codes, absmax, offset }: DoubleScales): Float32Array<ArrayBuffer> {
  const scales = new Float32Array(codes.length);
  for (let i = 0; i < codes.length; i++) {
    scales[i] = ((codes[i]! - 128) / 127) * absmax[Math.floor(i / SCALE_BLOCK)]! + offset;
  }
  return scales;
}

/** Where the three parts lie: U8 [out, in/group], F32 [ceil(out * in / group / 256)], F32 [1]. */
export interface StoredDoubleScales {
  readonly codes: StoredTensor;
  readonly absmax: StoredTensor;
  readonly offset: StoredTensor;
}

/**
 * The scales as GPTQ's layout has them: float16 bits [in/group, out].
 *
 * @throws {FormatError} for a number that is none, and for scales that float16 cannot hold
 */
export function readDoubleScales(stored: StoredDoubleScales): Uint16Array<ArrayBuffer> {
  const [outFeatures, groups] = stored.codes.shape as [number, number];
  const absmax = readFinite(stored.absmax);
  const [offset] = readFinite(stored.offset);
  const halves = floatsToHalves(decodeScales({ codes: readBytes(stored.codes), absmax, offset: offset! }));
  const infinite = halves.findIndex((bits) => (bits & 0x7c00) === 0x7c00);
  if (infinite >= 0) {
    const reason = `scale ${infinite} does not fit float16`;
    throw new FormatError("use", { file: stored.codes.path, tensor: stored.codes.name, reason });
  }
  const transposed = new Uint16Array(halves.length);
  for (let row = 0; row < outFeatures; row++) {
    for (let group = 0; group < groups; group++) transposed[group * outFeatures + row] = halves[row * groups + group]!;
  }
  return transposed;
}

/** Values of an F32 tensor that must all be finite. */
export function readFinite(tensor: StoredTensor): Float32Array<ArrayBuffer> {
  const values = readTensor(tensor);
  const bad = values.find((value) => !Number.isFinite(value));
  if (bad === undefined) return values;
  const reason = "it holds what is no finite number";
  throw new FormatError("use", { file: tensor.path, tensor: tensor.name, reason, received: String(bad) });
}
