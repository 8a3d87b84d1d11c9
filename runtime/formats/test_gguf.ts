/** Builds GGUF files for tests. */
import { writeFileSync } from "node:fs";

export type GgufField = string | number | { f32: number } | { type: number; bytes: Uint8Array };

export interface GgufEntry {
  name: string;
  /** GGUF's order: the row's length first. */
  dims: number[];
  type: number;
  data: Uint8Array;
}

export interface GgufParts {
  version?: number;
  metadata: Record<string, GgufField>;
  tensors: GgufEntry[];
}

/** Integers become u32, strings strings; data is laid out at multiples of 32 bytes. */
export function writeGguf(path: string, { version = 3, metadata, tensors }: GgufParts): void {
  const bytes: number[] = [];
  const u32 = (value: number): number => bytes.push(...new Uint8Array(Uint32Array.of(value).buffer));
  const u64 = (value: number): number => bytes.push(...new Uint8Array(BigUint64Array.of(BigInt(value)).buffer));
  const text = (value: string): void => {
    const utf8 = new TextEncoder().encode(value);
    u64(utf8.length);
    bytes.push(...utf8);
  };
  bytes.push(...new TextEncoder().encode("GGUF"));
  u32(version);
  u64(tensors.length);
  u64(Object.keys(metadata).length);
  for (const [key, value] of Object.entries(metadata)) {
    text(key);
    if (typeof value === "number") {
      u32(4);
      u32(value);
    } else if (typeof value === "string") {
      u32(8);
      text(value);
    } else if ("f32" in value) {
      u32(6);
      bytes.push(...new Uint8Array(Float32Array.of(value.f32).buffer));
    } else {
      u32(value.type);
      bytes.push(...value.bytes);
    }
  }
  const padTo32 = (length: number): number => Math.ceil(length / 32) * 32;
  let offset = 0;
  for (const { name, dims, type, data } of tensors) {
    text(name);
    u32(dims.length);
    for (const dim of dims) u64(dim);
    u32(type);
    u64(offset);
    offset += padTo32(data.length);
  }
  const start = padTo32(bytes.length);
  const file = new Uint8Array(start + offset);
  file.set(bytes);
  let at = start;
  for (const { data } of tensors) {
    file.set(data, at);
    at += padTo32(data.length);
  }
  writeFileSync(path, file);
}
