/**
 * Reading of safetensors files: header only, everything checked before a byte of tensor data is used.
 * Format: https://huggingface.co/docs/safetensors (u64 header length, JSON header, data without holes).
 */
import { Buffer } from "node:buffer";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { dtypeBytes, elementCount, isStoredDtype, type StoredDtype } from "./dtype.ts";
import { FormatError } from "./failure.ts";
import { decodeUtf8, isObject, type JsonObject, kindOf, parseJsonText, topLevelKeys } from "./json.ts";

/** The reference implementation's limit. */
const MAX_HEADER_BYTES = 100_000_000;
const METADATA = "__metadata__";

/** A tensor lying in a file: validated against the file's length, not read. */
export interface StoredTensor {
  readonly name: string;
  readonly path: string;
  readonly dtype: StoredDtype;
  readonly shape: readonly number[];
  /** Bytes from the start of the file; a multiple of the element size only where `isAligned` says so. */
  readonly offset: number;
  readonly bytes: number;
}

export interface SafetensorsFile {
  readonly path: string;
  readonly bytes: number;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** Whether the tensor may be used in place from a mapping of its file; if not, it has to be copied first. */
export function isAligned(tensor: StoredTensor): boolean {
  return tensor.offset % dtypeBytes(tensor.dtype) === 0;
}

/**
 * Reads and validates the header of one safetensors file.
 *
 * @throws {FormatError} naming the file and, where there is one, the tensor.
 */
export function openSafetensors(path: string): SafetensorsFile {
  const { header, bytes, dataStart } = readHeader(path);
  const entries = parseHeader(header, path);
  const tensors = new Map<string, StoredTensor>();
  for (const [name, entry] of Object.entries(entries)) {
    if (name !== METADATA) tensors.set(name, parseEntry(name, entry, path, dataStart, bytes));
  }
  checkCoverage(tensors, path, dataStart, bytes);
  return { path, bytes, tensors, metadata: parseMetadata(entries[METADATA], path) };
}

function readHeader(path: string): { header: Uint8Array; bytes: number; dataStart: number } {
  const file = openFile(path);
  try {
    const stat = fstatSync(file);
    if (!stat.isFile()) throw new FormatError("read", { file: path, reason: "not a regular file" });
    const bytes = stat.size;
    if (bytes < 8) {
      throw new FormatError("read", {
        file: path,
        reason: "truncated",
        received: `${bytes} bytes`,
        expected: "at least 8",
      });
    }
    const length = Number(readExactly(file, 8, 0, path).readBigUInt64LE(0));
    const room = Math.min(MAX_HEADER_BYTES, bytes - 8);
    if (length < 2 || length > room) {
      const reason = "header length does not fit the file";
      throw new FormatError("read", { file: path, reason, received: length, expected: `2 to ${room} bytes` });
    }
    return { header: readExactly(file, length, 8, path), bytes, dataStart: 8 + length };
  } finally {
    closeSync(file);
  }
}

function openFile(path: string): number {
  try {
    return openSync(path, "r");
  } catch (error) {
    throw new FormatError("open", { file: path, reason: error instanceof Error ? error.message : String(error) });
  }
}

function readExactly(file: number, length: number, position: number, path: string): Buffer {
  const buffer = Buffer.alloc(length);
  const got = readSync(file, buffer, 0, length, position);
  if (got === length) return buffer;
  throw new FormatError("read", { file: path, reason: "truncated", received: `${got} bytes`, expected: length });
}

function parseHeader(header: Uint8Array, path: string): JsonObject {
  const text = decodeUtf8(header, path);
  const entries = parseJsonText(text, path);
  const seen = new Set<string>();
  for (const key of topLevelKeys(text)) {
    if (seen.has(key)) throw new FormatError("read", { file: path, tensor: key, reason: "the name occurs twice" });
    seen.add(key);
  }
  return entries;
}

function parseMetadata(value: unknown, path: string): Record<string, string> {
  if (value === undefined) return {};
  const reason = `${METADATA} must map strings to strings`;
  if (!isObject(value)) throw new FormatError("read", { file: path, reason, received: kindOf(value) });
  const metadata: Record<string, string> = {};
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string") throw new FormatError("read", { file: path, reason, received: kindOf(text) });
    metadata[key] = text;
  }
  return metadata;
}

function parseEntry(name: string, entry: unknown, path: string, dataStart: number, fileBytes: number): StoredTensor {
  const fail = (reason: string, received?: unknown, expected?: unknown): never => {
    throw new FormatError("read", { file: path, tensor: name, reason, received, expected });
  };
  if (!isObject(entry)) return fail("wrong header entry", kindOf(entry), "object");
  const { dtype, shape, data_offsets: offsets } = entry;
  if (!isStoredDtype(dtype)) return fail("unknown dtype", dtype ?? "none");
  const count = elementCount(shape);
  const bytes = count * dtypeBytes(dtype);
  if (!Number.isSafeInteger(bytes))
    return fail("bad shape", shape ?? "none", "non-negative integers with a sane product");
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every((offset) => Number.isSafeInteger(offset))) {
    return fail("bad data_offsets", offsets ?? "none", "[begin, end]");
  }
  const [begin, end] = offsets as [number, number];
  if (begin < 0 || end < begin || dataStart + end > fileBytes) {
    return fail("data_offsets reach outside the file", offsets, `within [0, ${fileBytes - dataStart}]`);
  }
  if (end - begin !== bytes) {
    return fail(
      "data_offsets do not match dtype and shape",
      `${end - begin} bytes`,
      `${bytes} for ${dtype} ${JSON.stringify(shape)}`,
    );
  }
  return { name, path, dtype, shape: shape as number[], offset: dataStart + begin, bytes };
}

/** The format allows neither overlaps nor holes: the tensors, in order of their offsets, tile the data exactly. */
function checkCoverage(
  tensors: ReadonlyMap<string, StoredTensor>,
  path: string,
  dataStart: number,
  fileBytes: number,
): void {
  const byOffset = [...tensors.values()].sort((a, b) => a.offset - b.offset || a.bytes - b.bytes);
  let end = dataStart;
  for (const tensor of byOffset) {
    if (tensor.offset !== end) {
      const reason = tensor.offset < end ? "it overlaps another tensor" : "there is a hole before it";
      const received = `begin ${tensor.offset - dataStart}`;
      throw new FormatError("read", {
        file: path,
        tensor: tensor.name,
        reason,
        received,
        expected: end - dataStart,
      });
    }
    end += tensor.bytes;
  }
  if (end !== fileBytes) {
    const reason = "the tensors do not cover the data";
    throw new FormatError("read", {
      file: path,
      reason,
      received: `${fileBytes - dataStart} bytes of data`,
      expected: end - dataStart,
    });
  }
}
