/** One matrix of a checkpoint on the device, in the library's own form. */
import {
  BF16,
  type Context,
  type DeviceBuffer,
  F16,
  F32,
  GPTQ_V1,
  GPTQ_V2,
  type Ref,
  WEIGHT_AFFINE,
  WEIGHT_DENSE,
  WEIGHT_LUT,
  type Weight,
  type WeightShape,
  ZERO_FLOAT,
  ZERO_INTEGER,
} from "../../ffi/mod.ts";
import { readDoubleScales } from "../formats/double_scales.ts";
import {
  type AffineSource,
  type FloatDtype,
  type LinearSource,
  type LutSource,
  readBytes,
  type StoredTensor,
} from "../formats/mod.ts";

export type PackedSource = AffineSource | LutSource;

export const DEVICE_DTYPES: Record<FloatDtype, number> = { F32, F16, BF16 };

export function describePacked(source: PackedSource): WeightShape {
  const affine = source.kind === "affine";
  return {
    kind: affine ? WEIGHT_AFFINE : WEIGHT_LUT,
    dtype: 0,
    bits: source.bits,
    group: source.group,
    zero: affine && source.zero === "float" ? ZERO_FLOAT : ZERO_INTEGER,
    outFeatures: source.outFeatures,
    inFeatures: source.inFeatures,
  };
}

/**
 * Writes the packed form of `source` to `weight`.
 * @param stage puts a tensor where the library can read it, aligned to its elements; its pages are given back when mapped
 */
export function repack(
  context: Context,
  source: PackedSource,
  weight: Weight,
  stage: (tensor: StoredTensor) => Ref,
): void {
  const uploads: DeviceBuffer[] = [];
  const upload = (values: ArrayBufferView): Ref => {
    const buffer = context.alloc(values.byteLength);
    uploads.push(buffer);
    buffer.upload(values);
    return buffer.at(0);
  };
  try {
    const rest =
      source.kind === "affine"
        ? {
            zeros: stage(source.zeros),
            scales: stage(source.scales),
            table: null,
            format: source.format === "gptq" ? GPTQ_V1 : GPTQ_V2,
          }
        : {
            zeros: null,
            scales: "codes" in source.scales ? upload(readDoubleScales(source.scales)) : stage(source.scales),
            table: upload(source.table),
            format: GPTQ_V2,
          };
    context.weightRepack({ qweight: stage(source.qweight), ...rest, weight, releaseSource: 1 });
  } finally {
    for (const buffer of uploads) buffer[Symbol.dispose]();
  }
}

/** A tensor's bytes in a buffer of their own, read some megabytes at a time. */
export function copyTensor(context: Context, tensor: StoredTensor): DeviceBuffer {
  const copy = context.alloc(tensor.bytes);
  const step = 16 * 2 ** 20;
  for (let begin = 0; begin < tensor.bytes; begin += step) {
    copy.upload(readBytes(tensor, begin, Math.min(step, tensor.bytes - begin)), begin);
  }
  return copy;
}

/** A matrix and the buffer it owns. */
export interface LoadedMatrix extends Disposable {
  readonly weight: Weight;
}

/** Loads one matrix, dense or packed, without the rest of its model. */
export function loadMatrix(context: Context, source: LinearSource): LoadedMatrix {
  if (source.kind === "dense") {
    const { weight: tensor, outFeatures, inFeatures } = source;
    const buffer = copyTensor(context, tensor);
    const dtype = DEVICE_DTYPES[tensor.dtype as FloatDtype];
    const shape = { kind: WEIGHT_DENSE, dtype, bits: 0, group: 0, zero: 0, outFeatures, inFeatures };
    return { weight: { ...shape, data: buffer.at(0) }, [Symbol.dispose]: () => buffer[Symbol.dispose]() };
  }
  const shape = describePacked(source);
  const buffer = context.alloc(context.packedBytes(shape));
  const weight = { ...shape, data: buffer.at(0) };
  const staged: DeviceBuffer[] = [];
  try {
    repack(context, source, weight, (tensor) => {
      const copy = copyTensor(context, tensor);
      staged.push(copy);
      return copy.at(0);
    });
  } catch (error) {
    buffer[Symbol.dispose]();
    throw error;
  } finally {
    for (const copy of staged) copy[Symbol.dispose]();
  }
  return { weight, [Symbol.dispose]: () => buffer[Symbol.dispose]() };
}
