/**
 * GGUF's block formats as apiq's affine one, without loss. A block is 32 values along `in`:
 *   Q4_1  f16 d, f16 m, 16 bytes   w = d q + m        -> 4 bits, float zero: scale d, min m
 *   Q4_0  f16 d, 16 bytes          w = d (q - 8)      -> 4 bits, integer zero 8
 *   Q8_0  f16 d, 32 int8           w = d i            -> 8 bits, q = i + 128, integer zero 128
 * Byte j of a 4-bit block holds value j in its low half and value j + 16 in its high half.
 */
import type { StoredDtype } from "../formats/dtype.ts";
import { type Gguf, type GgufTensor, type GgufType, ggufRowBytes } from "../formats/gguf.ts";
import { packRow, packZeros, wordsFor } from "../formats/gptq.ts";
import type { AffineScheme } from "../formats/quantization.ts";
import { readRange } from "../formats/read.ts";
import type { TensorToWrite } from "../formats/safetensors_writer.ts";

const BLOCK = 32;
const SLAB_BYTES = 4 << 20;

type PackedType = "Q4_0" | "Q4_1" | "Q8_0";

/** `zero`: the integer zero; 4-bit values start at `data` of a block, and so do int8 ones. */
const LAYOUTS: Readonly<Record<PackedType, { scheme: AffineScheme; data: number; zero?: number }>> = {
  Q4_0: { scheme: { kind: "affine", bits: 4, group: BLOCK, zero: "integer", format: "gptq_v2" }, data: 2, zero: 8 },
  Q4_1: { scheme: { kind: "affine", bits: 4, group: BLOCK, zero: "float", format: "gptq_v2" }, data: 4 },
  Q8_0: { scheme: { kind: "affine", bits: 8, group: BLOCK, zero: "integer", format: "gptq_v2" }, data: 2, zero: 128 },
};

const DENSE_DTYPES: Readonly<Record<Exclude<GgufType, PackedType>, StoredDtype>> = {
  F32: "F32",
  F16: "F16",
  BF16: "BF16",
};

/** A tensor of the GGUF under its new name. */
export interface ImportedTensor {
  source: GgufTensor;
  module: string;
  kind: "weight" | "bias";
  /** Rows of one head, where llama.cpp interleaved the two halves of each head for its rotary op. */
  interleavedHead?: number;
}

/** How a type is stored in apiq, or undefined where it stays dense. */
export function schemeOfType(type: GgufType): AffineScheme | undefined {
  return isPacked(type) ? LAYOUTS[type].scheme : undefined;
}

/** The safetensors entries of one tensor; their data is read and converted when they are written. */
export function tensorsOf(gguf: Gguf, tensor: ImportedTensor): TensorToWrite[] {
  const { source, module, kind } = tensor;
  const { type } = source;
  if (!isPacked(type)) {
    const data = function* (): Iterable<Uint8Array> {
      for (const slab of slabs(gguf, tensor)) yield slab.bytes;
    };
    return [{ name: `${module}.${kind}`, dtype: DENSE_DTYPES[type], shape: source.shape, data }];
  }
  const [outFeatures, inFeatures] = source.shape as [number, number];
  const groups = inFeatures / BLOCK;
  const { scheme, zero } = LAYOUTS[type];
  const halves = (name: string, at: number): TensorToWrite => ({
    name: `${module}.${name}`,
    dtype: "F16",
    shape: [groups, outFeatures],
    data: () => [bytesOf(gatherHalves(gguf, tensor, at))],
  });
  const qweight: TensorToWrite = {
    name: `${module}.qweight`,
    dtype: "I32",
    shape: [wordsFor(inFeatures, scheme.bits), outFeatures],
    data: () => [bytesOf(packTensor(gguf, tensor, type))],
  };
  if (zero === undefined) return [qweight, halves("scales", 0), halves("mins", 2)];
  const zeros = (): Int32Array =>
    packZeros(new Uint8Array(groups * outFeatures).fill(zero), groups, outFeatures, scheme.bits);
  const shape = [groups, wordsFor(outFeatures, scheme.bits)];
  return [
    qweight,
    halves("scales", 0),
    { name: `${module}.qzeros`, dtype: "I32", shape, data: () => [bytesOf(zeros())] },
  ];
}

function isPacked(type: GgufType): type is PackedType {
  return Object.hasOwn(LAYOUTS, type);
}

function bytesOf(view: Int32Array | Uint16Array): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

interface Slab {
  firstRow: number;
  rows: number;
  bytes: Uint8Array;
}

/** The tensor's rows in Hugging Face's order, some megabytes at a time. A bias counts as rows of one value. */
function* slabs(gguf: Gguf, { source, interleavedHead: head }: ImportedTensor): Iterable<Slab> {
  const rows = source.shape[0]!;
  const rowBytes = ggufRowBytes(source.type, source.shape[1] ?? 1);
  const unit = head ?? 1;
  const slabRows = Math.max(1, Math.floor(SLAB_BYTES / (rowBytes * unit))) * unit;
  for (let firstRow = 0; firstRow < rows; firstRow += slabRows) {
    const count = Math.min(slabRows, rows - firstRow);
    const bytes = readRange(gguf.path, source.name, source.offset + firstRow * rowBytes, count * rowBytes);
    yield { firstRow, rows: count, bytes: head === undefined ? bytes : separateHalves(bytes, rowBytes, head) };
  }
}

/** Rows (i, half) of each head -> rows (half, i). */
function separateHalves(bytes: Uint8Array, rowBytes: number, head: number): Uint8Array {
  const target = new Uint8Array(bytes.length);
  for (let row = 0; row * rowBytes < bytes.length; row++) {
    const inHead = row % head;
    const moved = row - inHead + (inHead % 2) * (head / 2) + Math.floor(inHead / 2);
    target.set(bytes.subarray(row * rowBytes, (row + 1) * rowBytes), moved * rowBytes);
  }
  return target;
}

function packTensor(gguf: Gguf, tensor: ImportedTensor, type: PackedType): Int32Array {
  const [outFeatures, inFeatures] = tensor.source.shape as [number, number];
  const { scheme, data } = LAYOUTS[type];
  const blockBytes = ggufRowBytes(type, BLOCK);
  const expand = scheme.bits === 4 ? expandNibbles : expandBytes;
  const qweight = new Int32Array(wordsFor(inFeatures, scheme.bits) * outFeatures);
  const q = new Uint8Array(inFeatures);
  for (const { firstRow, rows, bytes } of slabs(gguf, tensor)) {
    let at = 0;
    for (let row = 0; row < rows; row++) {
      for (let first = 0; first < inFeatures; first += BLOCK, at += blockBytes) expand(bytes, at + data, q, first);
      packRow(q, 0, inFeatures, scheme.bits, qweight, firstRow + row, outFeatures);
    }
  }
  return qweight;
}

function expandNibbles(bytes: Uint8Array, at: number, q: Uint8Array, first: number): void {
  for (let j = 0; j < BLOCK / 2; j++) {
    const pair = bytes[at + j]!;
    q[first + j] = pair & 15;
    q[first + j + BLOCK / 2] = pair >> 4;
  }
}

/** int8 i -> i + 128, which flips the top bit. */
function expandBytes(bytes: Uint8Array, at: number, q: Uint8Array, first: number): void {
  for (let j = 0; j < BLOCK; j++) q[first + j] = bytes[at + j]! ^ 128;
}

/** The float16 at byte `at` of every block, as bits: [in/32, out]. */
function gatherHalves(gguf: Gguf, tensor: ImportedTensor, at: number): Uint16Array {
  const { shape, type } = tensor.source;
  const [outFeatures, inFeatures] = shape as [number, number];
  const groups = inFeatures / BLOCK;
  const blockBytes = ggufRowBytes(type, BLOCK);
  const halves = new Uint16Array(groups * outFeatures);
  for (const { firstRow, rows, bytes } of slabs(gguf, tensor)) {
    for (let row = 0; row < rows; row++) {
      for (let group = 0; group < groups; group++) {
        const source = (row * groups + group) * blockBytes + at;
        halves[group * outFeatures + firstRow + row] = bytes[source]! | (bytes[source + 1]! << 8);
      }
    }
  }
  return halves;
}
