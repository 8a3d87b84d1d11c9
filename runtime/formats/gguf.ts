/**
 * The head of a GGUF file: metadata and where the tensors lie, all of it checked against the file's length.
 * Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
 */
import { elementCount } from "./dtype.ts";
import { FormatError } from "./failure.ts";
import { GgufReader } from "./gguf_reader.ts";

export type GgufValue = number | bigint | boolean | string | GgufValue[];

/** Tensor types that can be imported: elements of a block and bytes of a block. */
const TYPES = {
  F32: { id: 0, blockElements: 1, blockBytes: 4 },
  F16: { id: 1, blockElements: 1, blockBytes: 2 },
  Q4_0: { id: 2, blockElements: 32, blockBytes: 18 },
  Q4_1: { id: 3, blockElements: 32, blockBytes: 20 },
  Q8_0: { id: 8, blockElements: 32, blockBytes: 34 },
  BF16: { id: 30, blockElements: 1, blockBytes: 2 },
} as const;

export type GgufType = keyof typeof TYPES;

/** Names of common types that cannot be imported, for the message. */
const OTHER_TYPES: Readonly<Record<number, string>> = {
  6: "Q5_0",
  7: "Q5_1",
  9: "Q8_1",
  10: "Q2_K",
  11: "Q3_K",
  12: "Q4_K",
  13: "Q5_K",
  14: "Q6_K",
  15: "Q8_K",
  34: "TQ1_0",
  35: "TQ2_0",
};

export interface GgufTensor {
  readonly name: string;
  readonly type: GgufType;
  /** Row-major as everywhere else in apiq: [out, in], the reverse of GGUF's own order. */
  readonly shape: readonly number[];
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly bytes: number;
}

export interface Gguf {
  readonly path: string;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly GgufTensor[];
}

/** Bytes of one row of `elements` values, which fill whole blocks. */
export function ggufRowBytes(type: GgufType, elements: number): number {
  const { blockElements, blockBytes } = TYPES[type];
  return (elements / blockElements) * blockBytes;
}

/**
 * Reads and checks the head of a GGUF file.
 *
 * @throws {FormatError} when it is truncated, inconsistent, of another version or byte order, or holds a type not listed above.
 */
export function openGguf(path: string): Gguf {
  using reader = new GgufReader(path);
  checkMagic(reader);
  // 8 bytes of key length, a value type and a value; 8 bytes of name length, dimensions, type and offset.
  const tensorCount = reader.count("number of tensors", 32);
  const keyCount = reader.count("number of metadata keys", 13);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = reader.string();
    if (metadata.has(key)) throw reader.failure(`metadata key ${JSON.stringify(key)} occurs twice`);
    metadata.set(key, readValue(reader, reader.u32()));
  }
  const infos = Array.from({ length: tensorCount }, () => readInfo(reader));
  const alignment = metadata.get("general.alignment") ?? 32;
  if (typeof alignment !== "number" || alignment < 8 || alignment % 8 !== 0 || alignment > 2 ** 20) {
    throw reader.failure("bad general.alignment", String(alignment), "a multiple of 8");
  }
  const dataStart = Math.ceil(reader.position / alignment) * alignment;
  const tensors = infos.map((info) => place(info, dataStart, alignment, reader));
  checkOverlap(tensors, path);
  return { path, metadata, tensors };
}

function checkMagic(reader: GgufReader): void {
  const magic = reader.u32();
  if (magic !== 0x46554747) throw reader.failure("not a GGUF file", `0x${magic.toString(16)}`, "0x46554747 (GGUF)");
  const version = reader.u32();
  if (version === 0x2000000 || version === 0x3000000) throw reader.failure("the file is big-endian");
  if (version !== 2 && version !== 3) throw reader.failure("unknown GGUF version", version, "2 or 3");
}

const ARRAY_TYPE = 9;
/** Smallest size in bytes of one value of each metadata type, and how to read it. */
const VALUES: readonly (readonly [bytes: number, read: (reader: GgufReader) => GgufValue] | undefined)[] = [
  [1, (reader) => reader.u8()],
  [1, (reader) => reader.i8()],
  [2, (reader) => reader.u16()],
  [2, (reader) => reader.i16()],
  [4, (reader) => reader.u32()],
  [4, (reader) => reader.i32()],
  [4, (reader) => reader.f32()],
  [1, (reader) => reader.u8() !== 0],
  [8, (reader) => reader.string()],
  undefined,
  [8, (reader) => reader.u64()],
  [8, (reader) => reader.i64()],
  [8, (reader) => reader.f64()],
];

function readValue(reader: GgufReader, type: number): GgufValue {
  if (type !== ARRAY_TYPE) return scalarOf(type, reader)[1](reader);
  const elementType = reader.u32();
  const [bytes, read] = scalarOf(elementType, reader);
  return Array.from({ length: reader.count("length of an array", bytes) }, () => read(reader));
}

/** Arrays of arrays are legal and nobody writes them. */
function scalarOf(type: number, reader: GgufReader): readonly [number, (reader: GgufReader) => GgufValue] {
  const value = VALUES[type];
  if (value === undefined) throw reader.failure("unknown type of a metadata value", type, "0 to 12");
  return value;
}

interface TensorInfo {
  name: string;
  shape: number[];
  typeId: number;
  offset: bigint;
}

function readInfo(reader: GgufReader): TensorInfo {
  const name = reader.string();
  const dimensions = reader.u32();
  if (dimensions < 1 || dimensions > 4)
    throw reader.failure(`bad number of dimensions of ${JSON.stringify(name)}`, dimensions, "1 to 4");
  const shape = Array.from({ length: dimensions }, () => Number(reader.u64())).reverse();
  return { name, shape, typeId: reader.u32(), offset: reader.u64() };
}

function place(
  { name, shape, typeId, offset }: TensorInfo,
  dataStart: number,
  alignment: number,
  reader: GgufReader,
): GgufTensor {
  const fail = (reason: string, received: unknown, expected?: unknown): FormatError =>
    new FormatError("read", { file: reader.path, tensor: name, reason, received, expected });
  const type = (Object.keys(TYPES) as GgufType[]).find((name) => TYPES[name].id === typeId);
  if (type === undefined) {
    throw fail("unsupported type", OTHER_TYPES[typeId] ?? `type ${typeId}`, Object.keys(TYPES).join(", "));
  }
  const elements = elementCount(shape);
  const rowElements = shape.at(-1) ?? 0;
  if (!(elements > 0)) throw fail("bad shape", shape, "positive integers with a sane product");
  if (rowElements % TYPES[type].blockElements !== 0) {
    throw fail("rows do not fill whole blocks", rowElements, `a multiple of ${TYPES[type].blockElements}`);
  }
  const bytes = ggufRowBytes(type, elements);
  if (offset % BigInt(alignment) !== 0n)
    throw fail("the offset is not aligned", String(offset), `a multiple of ${alignment}`);
  const room = reader.bytes - dataStart;
  if (offset + BigInt(bytes) > BigInt(room)) {
    throw fail("it reaches past the end of the file", `${offset} + ${bytes} bytes`, `at most ${room}`);
  }
  return { name, type, shape, offset: dataStart + Number(offset), bytes };
}

function checkOverlap(tensors: readonly GgufTensor[], path: string): void {
  const names = new Set<string>();
  let end = 0;
  for (const tensor of [...tensors].sort((a, b) => a.offset - b.offset)) {
    const fail = (reason: string): FormatError => new FormatError("read", { file: path, tensor: tensor.name, reason });
    if (names.has(tensor.name)) throw fail("the name occurs twice");
    if (tensor.offset < end) throw fail("it overlaps another tensor");
    names.add(tensor.name);
    end = tensor.offset + tensor.bytes;
  }
}
