/** Random numbers for initial values: the same for the same seed and place on every machine and runtime. */

/**
 * Uniform numbers in (-1, 1); `place` tells streams of one seed apart. xoshiro128** (arXiv 1805.01407), seeded through a mixing of
 * all parts.
 */
export function uniformNumbers(...place: readonly number[]): () => number {
  const next = randomWords(...place);
  return () => (next() >>> 8) / 2 ** 23 - 1 + 2 ** -24;
}

/** `count` uniform numbers in (-bound, bound), float32. */
export function uniform(count: number, bound: number, ...place: readonly number[]): Float32Array<ArrayBuffer> {
  const next = uniformNumbers(...place);
  return Float32Array.from({ length: count }, () => next() * bound);
}

/** Words of 32 random bits, as signed integers; `place` as above. */
export function randomWords(...place: readonly number[]): () => number {
  let mixed = 0;
  for (const key of place) {
    mixed = mix(mixed ^ (key | 0));
    mixed = mix(mixed ^ Math.floor(key / 2 ** 32));
  }
  const seeded = (i: number): number => mix((mixed + Math.imul(i, 0x9e3779b9)) | 0);
  let [a, b, c, d] = [seeded(1), seeded(2), seeded(3), seeded(4)];
  if ((a | b | c | d) === 0) a = 1;
  return () => {
    const five = Math.imul(b, 5);
    const result = Math.imul((five << 7) | (five >>> 25), 9);
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = (d << 11) | (d >>> 21);
    return result;
  };
}

/** A bijection of 32-bit words that spreads every bit (the finalizer of MurmurHash3). */
function mix(word: number): number {
  let x = (word + 0x9e3779b9) | 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return x ^ (x >>> 16);
}
