/** Where weights can lie that round to given integers, and the ranges that give their scales: how training starts from them. */
import type { AffineWeights } from "../method.ts";
import type { Range } from "./recipe.ts";

/** How far from its integer a weight may lie, in steps: a little less than rounding reaches. */
export const REACH = 0.49;

/**
 * Moves every weight [out, in] to the nearest place that rounds to its integer.
 *
 * @param beyond how far the outermost integers reach outwards, in steps; 0.5 or more rounds to them as well
 * @returns how many weights did not round to their integers
 */
export function moveIntoCells(
  w: Float32Array,
  { q, scales, zeros, bits, group }: AffineWeights,
  beyond = Number.POSITIVE_INFINITY,
): number {
  const last = 2 ** bits - 1;
  let strays = 0;
  for (let i = 0; i < w.length; i++) {
    const g = Math.floor(i / group);
    const centre = q[i] - zeros[g];
    const steps = w[i] / scales[g];
    const [isFirst, isLast] = [q[i] === 0, q[i] === last];
    if ((steps < centre - 0.5 && !isFirst) || (steps > centre + 0.5 && !isLast)) strays++;
    const least = centre - (isFirst ? beyond : REACH);
    const most = centre + (isLast ? beyond : REACH);
    w[i] = Math.min(Math.max(steps, least), most) * scales[g];
  }
  return strays;
}

/** The ranges that give these scales and zeros. */
export function rangesOf({ scales, zeros, bits }: AffineWeights): Range {
  const last = 2 ** bits - 1;
  return {
    low: scales.map((scale, g) => -zeros[g] * scale),
    high: scales.map((scale, g) => (last - zeros[g]) * scale),
  };
}
