/** Dropout's masks, from the generator's paper: Salmon et al., SC 2011. */

const WORD = 0xffffffffn;

/** Philox4x32-10 from its paper: the four words of a counter. */
function philox(key: bigint, low: bigint, high: bigint): bigint[] {
  let x = [low & WORD, low >> 32n, high & WORD, high >> 32n];
  let [first, second] = [key & WORD, key >> 32n];
  for (let round = 0; round < 10; round++) {
    const [even, odd] = [0xd2511f53n * x[0]!, 0xcd9e8d57n * x[2]!];
    x = [(odd >> 32n) ^ x[1]! ^ first, odd & WORD, (even >> 32n) ^ x[3]! ^ second, even & WORD];
    first = (first + 0x9e3779b9n) & WORD;
    second = (second + 0xbb67ae85n) & WORD;
  }
  return x;
}

/** Whether dropout keeps each element: by the halves of the words of sixteen counters that 128 elements share. */
export function dropoutMask(count: number, seed: bigint, stream: bigint, probability: number): boolean[] {
  const threshold = Math.round(Math.fround(probability) * 2 ** 16);
  const words = new Map<number, bigint[]>();
  return Array.from({ length: count }, (_, i) => {
    const counter = Math.floor(i / 128) * 16 + (i % 16);
    if (i % 128 < 16) words.set(counter, philox(seed, BigInt(counter), stream));
    const word = words.get(counter)![Math.floor(i / 32) % 4]!;
    const half = Math.floor(i / 16) % 2 === 0 ? word & 0xffffn : word >> 16n;
    return Number(half) >= threshold;
  });
}
