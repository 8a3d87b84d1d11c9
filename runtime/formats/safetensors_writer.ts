import { createHash } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { writeFileAtomically } from "./atomic.ts";
import { dtypeBytes, elementCount, type StoredDtype } from "./dtype.ts";
import { FormatError } from "./failure.ts";
import type { TensorHash } from "./fingerprint.ts";

/** A tensor to be written: its data as a whole, or a function that makes it in pieces when its turn comes. */
export interface TensorToWrite {
  name: string;
  dtype: StoredDtype;
  shape: readonly number[];
  /** Little-endian, row-major, exactly as many bytes as dtype and shape say. */
  data: Uint8Array | (() => Iterable<Uint8Array>);
}

/**
 * Writes a safetensors file. It appears under `path` only when complete; data made by functions is held one piece at a time.
 * Tensors are laid out by falling element size, then by name, which keeps each one aligned to its elements.
 *
 * @returns name and SHA-256 of each tensor, for `makeFingerprint`
 * @throws {FormatError} for a name that occurs twice or data of another length than its shape says
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorToWrite>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<TensorHash[]> {
  const ordered = [...tensors].sort((a, b) => dtypeBytes(b.dtype) - dtypeBytes(a.dtype) || (a.name < b.name ? -1 : 1));
  const header = encodeHeader(path, ordered, metadata);
  const hashes: TensorHash[] = [];
  await writeFileAtomically(path, async (write) => {
    write(header);
    for (const tensor of ordered) {
      // Large files take minutes: signals and timers get their turn between tensors.
      await setImmediate();
      const hash = createHash("sha256").update(`${tensor.dtype} ${JSON.stringify(tensor.shape)}\n`);
      let bytes = 0;
      for (const piece of typeof tensor.data === "function" ? tensor.data() : [tensor.data]) {
        write(piece);
        hash.update(piece);
        bytes += piece.length;
      }
      checkBytes(path, tensor, bytes);
      hashes.push({ name: tensor.name, sha256: hash.digest("hex") });
    }
  });
  return hashes;
}

/** Length and JSON, padded with spaces so that the data starts at a multiple of 8. */
function encodeHeader(
  path: string,
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const entries = new Map<string, unknown>([["__metadata__", { format: "pt", ...metadata }]]);
  let end = 0;
  for (const { name, dtype, shape } of tensors) {
    if (entries.has(name))
      throw new FormatError("write", { file: path, tensor: name, reason: "the name occurs twice" });
    const begin = end;
    end += elementCount(shape) * dtypeBytes(dtype);
    entries.set(name, { dtype, shape, data_offsets: [begin, end] });
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  const padded = Math.ceil(json.length / 8) * 8;
  const header = new Uint8Array(8 + padded).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, 8);
  return header;
}

function checkBytes(path: string, { name, dtype, shape }: TensorToWrite, bytes: number): void {
  const expected = elementCount(shape) * dtypeBytes(dtype);
  if (bytes === expected) return;
  const reason = "the data does not match dtype and shape";
  throw new FormatError("write", {
    file: path,
    tensor: name,
    reason,
    received: bytes,
    expected: `${expected} bytes`,
  });
}
