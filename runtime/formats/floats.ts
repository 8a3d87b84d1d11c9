/** Conversions between float32 and the 16-bit float formats, element by element and exact (rounding to nearest even). */

const float = new Float32Array(1);
const word = new Uint32Array(float.buffer);

/** IEEE binary16 bits -> number, exact. */
export function halfToFloat(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** number -> float32 -> IEEE binary16 bits, rounding to nearest even; overflow gives infinity. */
export function floatToHalf(value: number): number {
  float[0] = value;
  const sign = (word[0]! >>> 16) & 0x8000;
  const magnitude = word[0]! & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  if (magnitude < 0x33000000) return sign;
  // Below 2^-14 the result is subnormal: the implicit one becomes explicit and moves right.
  const subnormalShift = magnitude < 0x38800000 ? 113 - (magnitude >>> 23) : 0;
  const significand = subnormalShift > 0 ? (magnitude & 0x7fffff) | 0x800000 : magnitude - 0x38000000;
  const shift = 13 + subnormalShift;
  const kept = significand >>> shift;
  const rest = significand & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  // A carry out of the fraction increments the exponent, up to infinity: the encodings are adjacent.
  return sign | (kept + (rest > half || (rest === half && (kept & 1) === 1) ? 1 : 0));
}

/** bfloat16 bits -> number, exact. */
export function bfloatToFloat(bfloat: number): number {
  word[0] = bfloat << 16;
  return float[0]!;
}

let table: Float32Array | undefined;

/** Every binary16 value by its bits, for loops over whole tensors; made when first asked for. */
export function halfTable(): Float32Array {
  table ??= Float32Array.from({ length: 65536 }, (_, bits) => halfToFloat(bits));
  return table;
}
