/** Bytes of one element of each safetensors dtype. The format's sub-byte types are not in it: nothing here stores them. */
const DTYPE_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  I64: 8,
  U64: 8,
  F64: 8,
  C64: 8,
} as const;

export type StoredDtype = keyof typeof DTYPE_BYTES;
/** The dtypes weights, norms, biases and LoRA matrices come in. */
export type FloatDtype = "F32" | "F16" | "BF16";

export const FLOAT_DTYPES: readonly FloatDtype[] = ["F32", "F16", "BF16"];

export function isStoredDtype(name: unknown): name is StoredDtype {
  return typeof name === "string" && Object.hasOwn(DTYPE_BYTES, name);
}

export function dtypeBytes(dtype: StoredDtype): number {
  return DTYPE_BYTES[dtype];
}

/** Number of elements of a shape; NaN where it is not an array of non-negative integers or the product is not exact. */
export function elementCount(shape: unknown): number {
  if (!Array.isArray(shape) || !shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0)) return Number.NaN;
  let count = 1;
  for (const dim of shape) count *= dim;
  return Number.isSafeInteger(count) ? count : Number.NaN;
}
