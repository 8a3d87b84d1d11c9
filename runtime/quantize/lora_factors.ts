/** LoRA matrices from a product: w = b a with peft's layout, a [rank, in] and b [out, rank]. */
import type { LoraMatrices } from "./method.ts";

/**
 * The LoRA whose term is sum over i of left_i right_i^T. Each pair is balanced: a's row and b's column get the same norm, so
 * that both fit float16 and train at one rate. alpha is the rank, so that the scale is 1.
 * @param left float32 [rank, out], a pair's part of the output as rows
 * @param right float32 [rank, in]
 */
export function balancedLora(left: Float32Array, right: Float32Array, rank: number): LoraMatrices {
  const outFeatures = left.length / rank;
  const inFeatures = right.length / rank;
  const a = new Float32Array(right.length);
  const b = new Float32Array(left.length);
  for (let i = 0; i < rank; i++) {
    const leftNorm = norm(left, i * outFeatures, outFeatures);
    const rightNorm = norm(right, i * inFeatures, inFeatures);
    if (leftNorm === 0 || rightNorm === 0) continue;
    const factor = Math.sqrt(leftNorm / rightNorm);
    for (let c = 0; c < inFeatures; c++) a[i * inFeatures + c] = right[i * inFeatures + c]! * factor;
    for (let r = 0; r < outFeatures; r++) b[r * rank + i] = left[i * outFeatures + r]! / factor;
  }
  return { a, b, rank, alpha: rank, magnitude: null };
}

function norm(values: Float32Array, first: number, count: number): number {
  let squares = 0;
  for (let i = first; i < first + count; i++) squares += values[i]! * values[i]!;
  return Math.sqrt(squares);
}
