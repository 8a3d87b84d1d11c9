/** Products of bfloat16 as apiq_gemm defines them (APIQ_COMPUTE_BF16), operation by operation. */

const LEAST_NORMAL = 2 ** -126;

/** To the nearest bfloat16, ties to even; subnormal values to 0 of their sign, NaN to NaN. */
export function toBf16(values: Float32Array): Float32Array {
  const rounded = new Uint32Array(new Float32Array(values).buffer).map((bits) => {
    const magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return 0x7fc00000;
    if (magnitude < 0x00800000) return bits & 0x80000000;
    return (bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000;
  });
  return new Float32Array(rounded.buffer);
}

/**
 * One half of VDPBF16PS: sum + a b rounded once to float32; 0 of its sign where that is subnormal after rounding to 24 bits with
 * any exponent, which 2^-126 - 2^-151 and above are not.
 *
 * The product is exact in float64. So is the sum where its terms are less than 2^29 apart; further apart, the smaller one is less
 * than a quarter of the distance of the larger one, a float32, to its neighbours, and rounding twice gives that one as well.
 */
function step(sum: number, a: number, b: number): number {
  const exact = sum + a * b;
  if (Math.abs(exact) < LEAST_NORMAL - 2 ** -151) return exact < 0 || Object.is(exact, -0) ? -0 : 0;
  return Math.fround(exact);
}

/** Terms of a block of k: at most 384, a multiple of 8. */
export function blockDepth(k: number): number {
  return Math.ceil(Math.ceil(k / Math.ceil(k / 384)) / 8) * 8;
}

/**
 * The sum of a[p] b[p] over p of one element of c.
 *
 * @param a and b give the factors at p, rounded to bfloat16
 */
export function bf16Sum(k: number, a: (p: number) => number, b: (p: number) => number): number {
  const depth = blockDepth(k);
  let total = 0;
  for (let first = 0; first < k; first += depth) {
    let chain = 0;
    for (let p = first; p < Math.min(first + depth, k); p += 2) {
      chain = p + 1 < k ? step(chain, a(p + 1), b(p + 1)) : step(chain, 0, 0);
      chain = step(chain, a(p), b(p));
    }
    total = first === 0 ? chain : Math.fround(total + chain);
  }
  return total;
}
