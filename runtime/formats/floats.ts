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
