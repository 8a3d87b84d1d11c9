/**
 * Writes argument objects as C structs. An encoder is made once per struct from its layout; encoding then walks the fields
 * in order and checks every value, so that a typing mistake in the caller is an error that names the field, not a shifted
 * struct.
 */

import { handleOf } from "./device_buffer.ts";
import { type PlacedField, type ScalarType, type Shape, shapeOf, structBytes } from "./layout.ts";
import type { StructName } from "./symbols.ts";
import type { Ref, StructOf } from "./types.ts";

const TWO_TO_32 = 2 ** 32;
const LARGEST_FLOAT32 = 3.4028234663852886e38;

type Write = (view: DataView, at: number, value: unknown) => void;

/** A value that a field cannot hold. `path` grows outwards from the field while the error passes the structs around it. */
class FieldError extends TypeError {
  path = "";
  readonly received: unknown;
  readonly expected: string;

  constructor(received: unknown, expected: string) {
    super(`received ${show(received)}, expected ${expected}`);
    this.received = received;
    this.expected = expected;
  }

  inside(key: string): this {
    this.path = this.path === "" || this.path.startsWith("[") ? `${key}${this.path}` : `${key}.${this.path}`;
    return this;
  }
}

function show(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return `${value}n`;
  if (Array.isArray(value)) return `an array of ${value.length}`;
  return typeof value === "object" && value !== null ? "an object" : String(value);
}

export function camelCase(name: string): string {
  return name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

function integerWriter(low: number, high: number, set: (view: DataView, at: number, value: number) => void): Write {
  return (view, at, value) => {
    if (!Number.isInteger(value) || (value as number) < low || (value as number) > high) {
      throw new FieldError(value, `an integer from ${low} to ${high}`);
    }
    set(view, at, value as number);
  };
}

const writeSafeInteger = integerWriter(0, Number.MAX_SAFE_INTEGER, (view, at, value) => {
  view.setUint32(at, value % TWO_TO_32, true);
  view.setUint32(at + 4, Math.floor(value / TWO_TO_32), true);
});

const SCALAR_WRITERS: Record<ScalarType, Write> = {
  int32_t: integerWriter(-(2 ** 31), 2 ** 31 - 1, (view, at, value) => view.setInt32(at, value, true)),
  uint32_t: integerWriter(0, TWO_TO_32 - 1, (view, at, value) => view.setUint32(at, value, true)),
  uint64_t(view, at, value) {
    if (typeof value !== "bigint") return writeSafeInteger(view, at, value);
    if (BigInt.asUintN(64, value) !== value) throw new FieldError(value, "an integer of 64 bits without sign");
    view.setBigUint64(at, value, true);
  },
  float(view, at, value) {
    if (typeof value !== "number" || !(Math.abs(value) <= LARGEST_FLOAT32)) {
      throw new FieldError(value, "a finite float32");
    }
    view.setFloat32(at, value, true);
  },
};

function writeRef(view: DataView, at: number, value: unknown): void {
  if (value === null) {
    writeSafeInteger(view, at, 0);
    writeSafeInteger(view, at + 8, 0);
    return;
  }
  const ref = value as Partial<Ref> | undefined;
  const handle = ref?.buffer && handleOf(ref.buffer);
  if (handle === undefined) throw new FieldError(value, "a ref {buffer, offset} or null");
  writeSafeInteger(view, at, handle);
  try {
    writeSafeInteger(view, at + 8, ref?.offset);
  } catch (error) {
    throw (error as FieldError).inside("offset");
  }
}

function arrayWriter(element: Shape, length: number): Write {
  const write = writerOf(element);
  return (view, at, value) => {
    if (!Array.isArray(value) || value.length > length) throw new FieldError(value, `an array of at most ${length}`);
    for (let index = 0; index < value.length; index++) {
      try {
        write(view, at + index * element.bytes, value[index]);
      } catch (error) {
        throw error instanceof FieldError ? error.inside(`[${index}]`) : error;
      }
    }
    new Uint8Array(
      view.buffer,
      view.byteOffset + at + value.length * element.bytes,
      (length - value.length) * element.bytes,
    ).fill(0);
  };
}

/** A field that the caller gives, under its name in camelCase. */
function givenField(field: PlacedField): { key: string; write: Write } {
  const key = camelCase(field.name);
  const write = writerOf(field.shape);
  return {
    key,
    write(view, at, value) {
      try {
        write(view, at + field.offset, value);
      } catch (error) {
        throw error instanceof FieldError ? error.inside(key) : error;
      }
    },
  };
}

function structWriter(fields: readonly PlacedField[]): Write {
  const arrays = new Set(fields.filter((field) => field.shape.kind === "array").map((field) => field.name));
  const isCount = (name: string) => name.startsWith("n_") && arrays.has(name.slice(2));
  const given = fields.filter((field) => field.name !== "reserved" && !isCount(field.name)).map(givenField);
  const counts = fields
    .filter((field) => isCount(field.name))
    .map((field) => ({ key: camelCase(field.name.slice(2)), offset: field.offset }));
  const reserved = fields.filter((field) => field.name === "reserved");
  const known = new Set(given.map((field) => field.key));

  return (view, at, value) => {
    if (typeof value !== "object" || value === null) throw new FieldError(value, `{${[...known].join(", ")}}`);
    const object = value as Record<string, unknown>;
    for (const field of given) field.write(view, at, object[field.key]);
    for (const count of counts) view.setUint32(at + count.offset, (object[count.key] as unknown[]).length, true);
    for (const field of reserved) view.setUint32(at + field.offset, 0, true);
    for (const key in object) {
      if (!known.has(key))
        throw new FieldError(object[key], `no such field, only ${[...known].join(", ")}`).inside(key);
    }
  };
}

function writerOf(shape: Shape): Write {
  if (shape.kind === "scalar") return SCALAR_WRITERS[shape.type];
  if (shape.kind === "array") return arrayWriter(shape.element, shape.length);
  return shape.name === "apiq_ref" ? writeRef : structWriter(shape.fields);
}

const writers = new Map<StructName, Write>();

function writeStruct(name: StructName, view: DataView, at: number, value: unknown, purpose: string): void {
  let write = writers.get(name);
  if (!write) {
    write = writerOf(shapeOf(name));
    writers.set(name, write);
  }
  try {
    write(view, at, value);
  } catch (error) {
    if (!(error instanceof FieldError)) throw error;
    throw new TypeError(`Cannot ${purpose}: bad ${error.path || "arguments"}, ${error.message}`);
  }
}

/** Big enough for every struct; reused, as a native call has read its arguments when it returns. */
const scratch = new Uint8Array(1024);
const scratchView = new DataView(scratch.buffer);

/** `value` as the bytes of the C struct `name`, valid until the next call. `purpose` begins the error: "call rmsNorm". */
export function encode<Name extends StructName>(name: Name, value: StructOf<Name>, purpose: string): Uint8Array {
  writeStruct(name, scratchView, 0, value, purpose);
  return scratch;
}

/** The bytes of a C array of structs, for tables that live in buffers: LoRA slots, sampling parameters, biases. */
export function encodeArray<Name extends StructName>(name: Name, values: readonly StructOf<Name>[]): Uint8Array {
  const stride = structBytes(name);
  const bytes = new Uint8Array(values.length * stride);
  const view = new DataView(bytes.buffer);
  values.forEach((value, index) => {
    writeStruct(name, view, index * stride, value, `encode ${name} ${index}`);
  });
  return bytes;
}

/** Reads a struct of uint64_t fields that native code filled. */
export function decodeCounters<Name extends "apiq_memory_info">(
  name: Name,
  bytes: Uint8Array,
): { [Key in keyof StructOf<Name>]: number } {
  const shape = shapeOf(name);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const fields = shape.kind === "struct" ? shape.fields : [];
  const entries = fields.map((field) => [camelCase(field.name), Number(view.getBigUint64(field.offset, true))]);
  return Object.fromEntries(entries);
}
