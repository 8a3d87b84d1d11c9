import type { Linear } from "../models/weights.ts";

/** The weights of a dense float32 linear, [out, in], from the device. */
export function readDense({ weight }: Linear): Float32Array<ArrayBuffer> {
  const { buffer, offset } = weight.data!;
  return buffer.download(new Float32Array(weight.outFeatures * weight.inFeatures), offset);
}
