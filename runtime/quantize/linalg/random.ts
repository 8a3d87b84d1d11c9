/** Numbers for starting guesses: the same on every machine and runtime, which Math.log and Math.cos do not promise. */

/** Uniform numbers from -1 to 1 of a seed (mulberry32). */
export function uniformNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return (((x ^ (x >>> 14)) >>> 0) / 2 ** 32) * 2 - 1;
  };
}

/** One seed of several numbers: any change of one of them gives another. */
export function mixSeeds(...parts: readonly number[]): number {
  let seed = 0x9e3779b9;
  for (const part of parts) {
    seed = Math.imul(seed ^ part ^ (part / 2 ** 32), 0x85ebca6b);
    seed = Math.imul(seed ^ (seed >>> 13), 0xc2b2ae35) ^ (seed >>> 16);
  }
  return seed >>> 0;
}
