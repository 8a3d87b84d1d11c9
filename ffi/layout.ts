/** Sizes, alignments and field offsets of the structs in symbols.ts, by the rules of the C ABIs of x86-64 and AArch64. */

import { STRUCTS, type StructName } from "./symbols.ts";

const SCALAR_BYTES = { int32_t: 4, uint32_t: 4, float: 4, uint64_t: 8 } as const;

export type ScalarType = keyof typeof SCALAR_BYTES;

/** A C type taken apart. */
export type Shape =
  | { kind: "scalar"; type: ScalarType; bytes: number; alignment: number }
  | { kind: "struct"; name: StructName; fields: readonly PlacedField[]; bytes: number; alignment: number }
  | { kind: "array"; element: Shape; length: number; bytes: number; alignment: number };

export interface PlacedField {
  name: string;
  offset: number;
  shape: Shape;
}

const shapes = new Map<string, Shape>();

/** The shape of a C type as symbols.ts spells it: a scalar, a struct's name, or either with `[length]`. */
export function shapeOf(type: string): Shape {
  let shape = shapes.get(type);
  if (!shape) {
    shape = computeShape(type);
    shapes.set(type, shape);
  }
  return shape;
}

export function structBytes(name: StructName): number {
  return shapeOf(name).bytes;
}

function computeShape(type: string): Shape {
  const array = /^(\w+)\[(\d+)\]$/.exec(type);
  if (array) {
    const element = shapeOf(array[1]!);
    const length = Number(array[2]);
    return { kind: "array", element, length, bytes: element.bytes * length, alignment: element.alignment };
  }
  if (type in SCALAR_BYTES) {
    const bytes = SCALAR_BYTES[type as ScalarType];
    return { kind: "scalar", type: type as ScalarType, bytes, alignment: bytes };
  }
  const fields: PlacedField[] = [];
  let end = 0;
  let alignment = 1;
  for (const [name, fieldType] of Object.entries(STRUCTS[type as StructName])) {
    const shape = shapeOf(fieldType);
    const offset = alignUp(end, shape.alignment);
    fields.push({ name, offset, shape });
    end = offset + shape.bytes;
    alignment = Math.max(alignment, shape.alignment);
  }
  return { kind: "struct", name: type as StructName, fields, bytes: alignUp(end, alignment), alignment };
}

function alignUp(offset: number, alignment: number): number {
  return Math.ceil(offset / alignment) * alignment;
}
