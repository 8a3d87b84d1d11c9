/** The enumerators of apiq.h, without their prefix. A test compares them with the header. */

export const ABI_VERSION = 2;

/** What a native call returns. */
export const STATUS = {
  OK: 0,
  INVALID_HANDLE: 1,
  INVALID_ARGUMENT: 2,
  OUT_OF_RANGE: 3,
  OUT_OF_MEMORY: 4,
  IO_ERROR: 5,
  UNSUPPORTED: 6,
  INVALID_STATE: 7,
  INTERNAL: 8,
} as const;

// instruction sets of the CPU library
export const ISA_AUTO = 0;
export const ISA_SCALAR = 1;
export const ISA_AVX2 = 2;
export const ISA_AVX512 = 3;
export const ISA_AVX512_BF16 = 4;

// element types
export const F32 = 0;
export const F16 = 1;
export const BF16 = 2;

// weight families
export const WEIGHT_DENSE = 0;
export const WEIGHT_AFFINE = 1;
export const WEIGHT_LUT = 2;

// how the zero of an affine group is stored
export const ZERO_INTEGER = 0;
export const ZERO_FLOAT = 1;

// integer layouts that weightRepack reads
export const GPTQ_V1 = 0;
export const GPTQ_V2 = 1;

// how a packed linear treats its input
export const ACTIVATIONS_INT8 = 0;
export const ACTIVATIONS_F32 = 1;

// how a product takes its factors
export const COMPUTE_F32 = 0;
export const COMPUTE_BF16 = 1;

export const MAX_PARTS = 4;
