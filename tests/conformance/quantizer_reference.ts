/** The affine quantizer of the kernels in float64, and its surrogate: what the straight-through gradients are gradients of. */

export const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

export const clamp = (x: number, low: number, high: number) => Math.min(high, Math.max(low, x));

/** To the nearest whole number, ties to even. */
export function roundEven(x: number): number {
  const down = Math.floor(x);
  const fraction = x - down;
  if (fraction !== 0.5) return fraction < 0.5 ? down : down + 1;
  return down % 2 === 0 ? down : down + 1;
}

export interface Quantizer {
  scale: number;
  /** As given, before it is rounded. */
  zero: number;
  top: number;
  clampZero: boolean;
}

/** z. It is whole but for the small step of a difference, which at an edge of the range is let through in both directions. */
export function zeroPoint({ zero, top, clampZero }: Quantizer, residual = roundEven(zero) - zero): number {
  const whole = zero + residual;
  if (!clampZero) return whole;
  return whole < -0.5 ? 0 : whole > top + 0.5 ? top : whole;
}

/** w / scale rounded, a float32 division as in the kernels. */
export const rounded = (w: number, scale: number) => roundEven(Math.fround(w / scale));

export function levelOf(w: number, quantizer: Quantizer): number {
  return clamp(rounded(w, quantizer.scale) + zeroPoint(quantizer), 0, quantizer.top);
}

/** What stays when a group's parameters move: the residuals of both roundings. */
export interface Frozen {
  ratio: number;
  zero: number;
  edgesInside: boolean;
}

/**
 * scale (clamp(w / scale + residual + z) - z). Levels are whole but for the small step of a difference, so a threshold half a
 * level inside or outside of an edge gives the edge the slope that `edgesInside` asks for and changes nothing elsewhere.
 */
export function surrogate(w: number, quantizer: Quantizer, frozen: Frozen): number {
  const { scale, top } = quantizer;
  const zero = zeroPoint(quantizer, frozen.zero);
  const level = w / scale + frozen.ratio + zero;
  const margin = frozen.edgesInside ? 0.5 : -0.5;
  const clamped = level < -margin ? 0 : level > top + margin ? top : level;
  return scale * (clamped - zero);
}

/** (f(x + h) - f(x - h)) / 2h */
export function centralDifference(f: (x: number) => number, x: number, h: number): number {
  return (f(x + h) - f(x - h)) / (2 * h);
}
