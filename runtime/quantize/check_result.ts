/** What a method hands back is checked before it is stored: a method may be anyone's file. */
import { BITS, GROUP_SIZES } from "../formats/gptq.ts";
import type { LoraMatrices, QuantizedLinear, StoredWeights } from "./method.ts";
import type { SourceLinear } from "./source.ts";

/** Largest finite float16. */
const HALF_MAX = 65504;

/**
 * @param kept modules that stay in 16 bits and must not be in the result
 * @throws for modules that are missing or too many, for sizes that do not fit and for numbers that cannot be stored
 */
export function checkResult(
  result: ReadonlyMap<string, QuantizedLinear>,
  linears: readonly SourceLinear[],
  kept: ReadonlySet<string>,
): void {
  const expected = new Set(linears.map(({ module }) => module).filter((module) => !kept.has(module)));
  const extra = [...result.keys()].find((module) => !expected.has(module));
  if (extra !== undefined) throw new Error(`Cannot store ${extra}: the method was not asked for it`);
  for (const linear of linears) {
    if (!expected.has(linear.module)) continue;
    const quantized = result.get(linear.module);
    if (quantized === undefined) throw new Error(`Cannot store ${linear.module}: the method gave nothing for it`);
    checkWeights(quantized.weights, linear);
    if (quantized.lora !== null) checkLora(quantized.lora, linear);
  }
}

export function checkWeights(weights: StoredWeights, { module, outFeatures, inFeatures }: SourceLinear): void {
  const size = (what: string, received: number, expected: number): void => {
    if (received === expected) return;
    throw new Error(`Cannot store ${module}: received ${received} ${what}, expected ${expected}`);
  };
  checkKind(module, weights);
  const count = outFeatures * inFeatures;
  if (weights.family === "dense") {
    size("values", weights.values.length, count);
    checkHalves(module, "values", weights.values);
    return;
  }
  const { bits, group } = weights;
  if (inFeatures % group !== 0) {
    throw new Error(`Cannot store ${module}: received groups of ${group}, expected a divisor of ${inFeatures} inputs`);
  }
  const groups = count / group;
  size("integers", weights.q.length, count);
  size("scales", weights.scales.length, groups);
  checkHalves(module, "scales", weights.scales);
  checkIntegers(module, "integers", weights.q, bits);
  if (weights.family === "lut") {
    size("table entries", weights.table.length, 2 ** bits);
    checkFinite(module, "table", weights.table);
    return;
  }
  size("zeros", weights.zeros.length, groups);
  if (weights.zero === "integer") checkIntegers(module, "zeros", weights.zeros, bits);
  else checkHalves(module, "zeros", weights.zeros);
}

/** A user's file is not checked by types: is everything there that the family has, and in a setting that can be stored? */
function checkKind(module: string, weights: StoredWeights): void {
  const refusal = (what: string, received: unknown, expected: string): Error =>
    new Error(`Cannot store ${module}: received ${`${what} ${received}`.trim()}, expected ${expected}`);
  const arrays = { affine: ["q", "scales", "zeros"], lut: ["q", "scales", "table"], dense: ["values"] }[weights.family];
  if (arrays === undefined) throw refusal("family", weights.family, "affine, lut or dense");
  const missing = arrays.find((name) => !ArrayBuffer.isView((weights as unknown as Record<string, unknown>)[name]));
  if (missing !== undefined) throw refusal(`no typed array ${missing}`, "", arrays.join(", "));
  if (weights.family === "dense") return;
  const bits = weights.family === "affine" ? BITS : [2, 3, 4];
  if (!bits.some((b) => b === weights.bits)) throw refusal("bits", weights.bits, bits.join(", "));
  if (!GROUP_SIZES.some((g) => g === weights.group)) throw refusal("group", weights.group, GROUP_SIZES.join(", "));
}

function checkLora(
  { a, b, rank, alpha, magnitude }: LoraMatrices,
  { module, outFeatures, inFeatures }: SourceLinear,
): void {
  const fits =
    a.length === rank * inFeatures &&
    b.length === rank * outFeatures &&
    (magnitude?.length ?? outFeatures) === outFeatures;
  if (!fits) {
    const received = `A of ${a.length}, B of ${b.length} and a magnitude of ${magnitude?.length ?? 0}`;
    throw new Error(`Cannot store the LoRA of ${module}: received ${received} values at rank ${rank}`);
  }
  if (!(alpha > 0 && Number.isFinite(alpha)))
    throw new Error(`Cannot store the LoRA of ${module}: received alpha ${alpha}`);
  checkHalves(module, "LoRA A", a);
  checkHalves(module, "LoRA B", b);
  if (magnitude !== null) checkFinite(module, "LoRA magnitude", magnitude);
}

function checkIntegers(module: string, what: string, values: ArrayLike<number>, bits: number): void {
  const last = 2 ** bits - 1;
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (value >= 0 && value <= last && Number.isInteger(value)) continue;
    throw new Error(`Cannot store ${module}: received ${value} in its ${what}, expected integers from 0 to ${last}`);
  }
}

function checkHalves(module: string, what: string, values: Float32Array): void {
  for (const value of values) {
    if (Math.abs(value) <= HALF_MAX) continue;
    throw new Error(`Cannot store ${module}: received ${value} in its ${what}, expected numbers that float16 can hold`);
  }
}

function checkFinite(module: string, what: string, values: Float32Array): void {
  for (const value of values) {
    if (Number.isFinite(value)) continue;
    throw new Error(`Cannot store ${module}: received ${value} in its ${what}, expected finite numbers`);
  }
}
