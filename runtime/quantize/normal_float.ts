/**
 * The NormalFloat tables: the levels of a quantizer whose values are equally likely for normally distributed weights, with an exact
 * zero. QLoRA (arXiv 2305.14314) makes NF4; LoftQ (arXiv 2310.08659) makes NF2 by the same construction, and so is NF3 made here.
 *
 * With n = 2^bits levels, n / 2 of them are positive and n / 2 - 1 negative: the normal quantiles of equally spaced probabilities
 * from `OUTERMOST` down to one half (left out, zero is a level of its own), divided by the largest.
 */

/** Probability of the outermost level: half of (1 - 1/(2 n)) + (1 - 1/(2 (n - 1))) for the n = 16 levels of NF4, kept for all n. */
const OUTERMOST = 1 - (1 / 32 + 1 / 30) / 2;

/** The levels of NF2, NF3 or NF4: float32 [2^bits], rising from -1 to 1. */
export function nfTable(bits: 2 | 3 | 4): Float32Array<ArrayBuffer> {
  const half = 2 ** (bits - 1);
  const largest = normalQuantile(OUTERMOST);
  const level = (index: number, count: number): number =>
    normalQuantile(OUTERMOST + ((0.5 - OUTERMOST) * index) / count) / largest;
  const negative = Array.from({ length: half - 1 }, (_, i) => -level(i, half - 1));
  const positive = Array.from({ length: half }, (_, i) => level(half - 1 - i, half));
  return Float32Array.from([...negative, 0, ...positive]);
}

/** The x with Phi(x) = p, for p in (0.001, 0.999): Newton's method on the distribution function. */
export function normalQuantile(p: number): number {
  let x = 0;
  for (let step = 0; step < 20; step++) {
    const density = Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI);
    const change = (normalCdf(x, density) - p) / density;
    x -= change;
    if (Math.abs(change) < 1e-15) break;
  }
  return x;
}

/** Phi(x) = 1/2 + density(x) (x + x^3/3 + x^5/(3 5) + ...), Abramowitz and Stegun 26.2.11. */
function normalCdf(x: number, density: number): number {
  let term = x;
  let sum = x;
  for (let k = 3; Math.abs(term) > 1e-18; k += 2) {
    term *= (x * x) / k;
    sum += term;
  }
  return 0.5 + density * sum;
}
