/** Conversions between float32 and the 16-bit float formats, which travel as their bits. Rounding is to nearest even. */

const half = new Float16Array(1);
const halfBits = new Uint16Array(half.buffer);

/** IEEE binary16 bits -> number, exact. */
export function halfToFloat(bits: number): number {
  halfBits[0] = bits;
  return half[0]!;
}

/** number -> IEEE binary16 bits; overflow gives infinity. */
export function floatToHalf(value: number): number {
  half[0] = value;
  return halfBits[0]!;
}

/** `halfToFloat` of every element, several times faster than one by one. */
export function halvesToFloats(bits: Uint16Array): Float32Array<ArrayBuffer> {
  return new Float32Array(new Float16Array(bits.buffer, bits.byteOffset, bits.length));
}

/** `floatToHalf` of every element. */
export function floatsToHalves(values: Float32Array): Uint16Array<ArrayBuffer> {
  return new Uint16Array(new Float16Array(values).buffer);
}

/** bfloat16 bits -> float32, exact: they are its upper half. */
export function bfloatsToFloats(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const words = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i]! << 16;
  return new Float32Array(words.buffer);
}

/** float32 -> bfloat16 bits; a NaN stays one. */
export function floatsToBfloats(values: Float32Array): Uint16Array<ArrayBuffer> {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const bits = new Uint16Array(words.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    const upper = word >>> 16;
    const notANumber = (word & 0x7fffffff) > 0x7f800000;
    // Half of the last place less one, and one more where the upper half is odd: ties go to even.
    bits[i] = notANumber ? upper | 0x40 : (word + 0x7fff + (upper & 1)) / 0x10000;
  }
  return bits;
}
