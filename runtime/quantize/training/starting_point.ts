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
import { bitsOf } from "../bits_for.ts";
import { readDense } from "../dense.ts";
import type { BlockJob, QuantizedLinear } from "../method.ts";
import { moveIntoCells, rangesOf } from "./cells.ts";
import { type InitialLora, rowNorms, subtractLora } from "./lora.ts";
import type { Range } from "./recipe.ts";

export interface StartingPoint extends Disposable {
  /** float32 [out, in] */
  readonly w: Ref;
  readonly range: Range | null;
  readonly lora: InitialLora | null;
}

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
  const { group } = settings;
  const bits = bitsOf(job, linear);
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
