/**
 * Where the training of a linear starts: from its weight, or from the result of another method (--init-from).
 *
 * From an affine result of the same bits and groups, training starts with exactly its integers, scales, zeros and LoRA: ranges
 * are chosen such that the initial clipping gives its scales, and each weight W - scale B A is moved into the interval that
 * rounds to its integer. So errors that the other method compensated (GPTQ) stay compensated, and residuals stay as small as they
 * can be. From any other result, W - scale B A is quantized anew, beside its LoRA.
 */
import type { Ref } from "../../../ffi/mod.ts";
import type { Linear } from "../../models/weights.ts";
import { readDense } from "../dense.ts";
import type { AffineWeights, BlockJob, QuantizedLinear } from "../method.ts";
import { type InitialLora, rowNorms } from "./lora.ts";
import type { Range } from "./recipe.ts";

export interface StartingPoint extends Disposable {
  /** float32 [out, in] */
  readonly w: Ref;
  readonly range: Range | null;
  readonly lora: InitialLora | null;
}

/** Weights keep this far from the ends of a rounding interval, in steps. */
const MARGIN = 0.01;

/** @param trainsLora whether the method has LoRA; one without quantizes all of W */
export function startingPoint(job: BlockJob, linear: Linear, trainsLora: boolean): StartingPoint {
  const { context, init, settings } = job;
  const { data, inFeatures } = linear.weight;
  const w = data as Ref;
  const from = init?.get(linear.name) ?? null;
  if (!from) return { w, range: null, lora: null, [Symbol.dispose]() {} };
  const lora = trainsLora ? usableLora(job, from, linear) : null;
  const values = readDense(linear);
  if (lora) subtractLora(values, lora, inFeatures, settings.alpha / settings.rank);
  const { weights } = from;
  const { bits, group } = settings;
  const same =
    weights.family === "affine" && weights.zero === "integer" && weights.bits === bits && weights.group === group;
  if (same) moveIntoCells(values, weights);
  const buffer = context.alloc(values.byteLength);
  buffer.upload(values);
  return {
    w: buffer.at(0),
    range: same ? rangesOf(weights) : null,
    lora,
    [Symbol.dispose]: () => buffer[Symbol.dispose](),
  };
}

/**
 * The other method's LoRA at this run's scale: B takes the difference. With DoRA, a missing magnitude is the row norms of the
 * weight.
 */
function usableLora({ context, settings }: BlockJob, { lora }: QuantizedLinear, linear: Linear): InitialLora | null {
  if (!lora) return null;
  const refuse = (received: string, expected: string): never => {
    throw new Error(`Cannot start ${linear.name} from the given LoRA: received ${received}, expected ${expected}`);
  };
  if (lora.rank !== settings.rank) refuse(`rank ${lora.rank}`, `${settings.rank}`);
  if (lora.magnitude && !settings.dora) refuse("one with DoRA's magnitude", "none without --dora");
  const factor = lora.alpha / settings.alpha;
  return {
    a: lora.a,
    b: lora.b.map((value) => value * factor),
    magnitude: settings.dora ? (lora.magnitude ?? rowNorms(context, linear)) : null,
  };
}

/** w -= scale b a, for w [out, in] */
function subtractLora(w: Float32Array, { a, b }: InitialLora, inFeatures: number, scale: number): void {
  const rank = a.length / inFeatures;
  const product = new Float64Array(inFeatures);
  for (let row = 0; row * inFeatures < w.length; row++) {
    product.fill(0);
    for (let r = 0; r < rank; r++) {
      const factor = b[row * rank + r] * scale;
      for (let i = 0; i < inFeatures; i++) product[i] += factor * a[r * inFeatures + i];
    }
    for (let i = 0; i < inFeatures; i++) w[row * inFeatures + i] -= product[i];
  }
}

/** Moves every weight to the nearest place that rounds to its integer; the outermost integers reach on without end. */
function moveIntoCells(w: Float32Array, { q, scales, zeros, bits, group }: AffineWeights): void {
  const last = 2 ** bits - 1;
  const reach = 0.5 - MARGIN;
  for (let i = 0; i < w.length; i++) {
    const g = Math.floor(i / group);
    const centre = q[i] - zeros[g];
    const least = q[i] === 0 ? Number.NEGATIVE_INFINITY : centre - reach;
    const most = q[i] === last ? Number.POSITIVE_INFINITY : centre + reach;
    w[i] = Math.min(Math.max(w[i] / scales[g], least), most) * scales[g];
  }
}

/** The ranges that give these scales and zeros. */
function rangesOf({ scales, zeros, bits }: AffineWeights): Range {
  const last = 2 ** bits - 1;
  return {
    low: scales.map((scale, g) => -zeros[g] * scale),
    high: scales.map((scale, g) => (last - zeros[g]) * scale),
  };
}
