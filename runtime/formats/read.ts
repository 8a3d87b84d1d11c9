/** Reading of whole small tensors into JavaScript: norms, LoRA matrices, g_idx. Weights are mapped by the kernel library. */
import { closeSync, openSync, readSync } from "node:fs";
import { FormatError } from "./failure.ts";
import { bfloatsToFloats, halvesToFloats } from "./floats.ts";
import type { StoredTensor } from "./safetensors.ts";

/** The tensor's bytes as they lie in the file, little-endian, or a part of them. */
export function readBytes(
  tensor: StoredTensor,
  begin = 0,
  bytes: number = tensor.bytes - begin,
): Uint8Array<ArrayBuffer> {
  return readRange(tensor.path, tensor.name, tensor.offset + begin, bytes);
}

/**
 * `bytes` bytes at `offset` of a file.
 *
 * @param tensor what they belong to, for the message
 * @throws {FormatError} when the file has become shorter since its header was read.
 */
export function readRange(path: string, tensor: string, offset: number, bytes: number): Uint8Array<ArrayBuffer> {
  const target = new Uint8Array(bytes);
  const file = openSync(path, "r");
  try {
    let done = 0;
    while (done < bytes) {
      const got = readSync(file, target, done, bytes - done, offset + done);
      if (got === 0) {
        const received = `${done} bytes`;
        throw new FormatError("read", { file: path, tensor, reason: "truncated", received, expected: bytes });
      }
      done += got;
    }
  } finally {
    closeSync(file);
  }
  return target;
}

/** Row-major float32 values of an F32, F16 or BF16 tensor. */
export function readTensor(tensor: StoredTensor): Float32Array<ArrayBuffer> {
  switch (tensor.dtype) {
    case "F32":
      return new Float32Array(readBytes(tensor).buffer);
    case "F16":
      return halvesToFloats(new Uint16Array(readBytes(tensor).buffer));
    case "BF16":
      return bfloatsToFloats(new Uint16Array(readBytes(tensor).buffer));
    default:
      throw wrongDtype(tensor, "F32, F16 or BF16");
  }
}

/** Row-major values of an I32 tensor. */
export function readInts(tensor: StoredTensor): Int32Array<ArrayBuffer> {
  if (tensor.dtype !== "I32") throw wrongDtype(tensor, "I32");
  return new Int32Array(readBytes(tensor).buffer);
}

function wrongDtype(tensor: StoredTensor, expected: string): FormatError {
  const details = { file: tensor.path, tensor: tensor.name, reason: "wrong dtype", received: tensor.dtype, expected };
  return new FormatError("read", details);
}
