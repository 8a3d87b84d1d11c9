/** Tensors of a plain model folder, made from stored ones some megabytes at a time. */
import type { Context } from "../../ffi/mod.ts";
import type { StoredDtype } from "../formats/dtype.ts";
import { bfloatsToFloats, floatsToBfloats, floatsToHalves, halvesToFloats } from "../formats/floats.ts";
import {
  dtypeBytes,
  elementCount,
  type FloatDtype,
  FormatError,
  type LinearSource,
  type LoraTarget,
  readBytes,
  readLora,
  type StoredTensor,
} from "../formats/mod.ts";
import type { TensorToWrite } from "../formats/safetensors_writer.ts";
import { EffectiveRows } from "../models/effective_rows.ts";
import { loadMatrix } from "../models/repack.ts";

const PIECE_VALUES = 4 << 20;

/** A matrix [out, in], with adapters added to it, as tensor `name`. */
export function expandedMatrix(
  context: Context,
  name: string,
  source: LinearSource,
  loras: readonly LoraTarget[],
  dtype: FloatDtype,
): TensorToWrite {
  const { outFeatures, inFeatures } = source;
  const file = (source.kind === "dense" ? source.weight : source.qweight).path;
  return {
    name,
    dtype,
    shape: [outFeatures, inFeatures],
    *data() {
      using matrix = loadMatrix(context, source);
      using rows = new EffectiveRows(context, matrix.weight, loras.map(readLora));
      for (let first = 0; first < outFeatures; first += rows.slabRows) {
        yield narrow(rows.read(first, Math.min(rows.slabRows, outFeatures - first)), dtype, file, name);
      }
    },
  };
}

/** A stored tensor in another float type, or as it is. */
export function convertedTensor(tensor: StoredTensor, dtype: StoredDtype): TensorToWrite {
  const { name, shape, path } = tensor;
  const bytes = dtypeBytes(tensor.dtype);
  const count = elementCount(shape);
  return {
    name,
    dtype,
    shape,
    *data() {
      for (let first = 0; first < count; first += PIECE_VALUES) {
        const piece = readBytes(tensor, first * bytes, Math.min(PIECE_VALUES, count - first) * bytes);
        if (dtype === tensor.dtype) yield piece;
        else yield narrow(widen(piece.buffer, tensor.dtype as FloatDtype), dtype as FloatDtype, path, name);
      }
    },
  };
}

function widen(bytes: ArrayBuffer, dtype: FloatDtype): Float32Array {
  switch (dtype) {
    case "F32":
      return new Float32Array(bytes);
    case "F16":
      return halvesToFloats(new Uint16Array(bytes));
    case "BF16":
      return bfloatsToFloats(new Uint16Array(bytes));
  }
}

/** @throws {FormatError} for a finite value that becomes infinite */
function narrow(values: Float32Array, dtype: FloatDtype, file: string, tensor: string): Uint8Array {
  if (dtype === "F32") return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const bits = dtype === "F16" ? floatsToHalves(values) : floatsToBfloats(values);
  const infinity = dtype === "F16" ? 0x7c00 : 0x7f80;
  for (let i = 0; i < bits.length; i++) {
    if ((bits[i]! & 0x7fff) !== infinity || !Number.isFinite(values[i])) continue;
    const reason = `a value that ${dtype === "F16" ? "float16" : "bfloat16"} cannot hold; another --dtype can`;
    throw new FormatError("use", { file, tensor, reason, received: values[i] });
  }
  return new Uint8Array(bits.buffer);
}
