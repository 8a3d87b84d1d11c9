/**
 * What the float32 weights behind a packed matrix begin with, such that they round to its integers: the model as it is then is the
 * packed one, bit for bit.
 */
import { type AdapterSource, type Checkpoint, type LoraTarget, readTensor } from "../formats/mod.ts";
import { type DecoderConfig, parseConfig } from "../models/config.ts";
import type { Linear } from "../models/weights.ts";
import { dequantizeAffine } from "../quantize/affine.ts";
import type { AffineWeights } from "../quantize/method.ts";
import { moveIntoCells, REACH } from "../quantize/training/cells.ts";
import { subtractLora } from "../quantize/training/lora.ts";

/** The least scale that the kernels quantize with, a float16 value. */
const LEAST_SCALE = new Float16Array([1e-5])[0]!;

/** A part of all weights; with fewer that must move, a full-precision matrix is the one that was rounded. */
const FEW = 0.02;

/** How weights of a matrix begin. */
export interface FirstWeights {
  /** As the matrix is stored; scales are positive. */
  readonly stored: AffineWeights;
  /** float32 [out, in], rounding to `stored` */
  readonly values: Float32Array;
}

/**
 * Of the full-precision matrix: each weight where it rounds to its integer, else the nearest place that does, and none more than
 * half a step beyond the outermost integers, where it would have no gradient. Some methods round the matrix (ApiQ, OmniQuant),
 * others what LoRA leaves of it (LoftQ): taken is the one of which fewer weights must move. Without a full-precision matrix, the
 * packed weights themselves.
 *
 * @param packed of `linear`
 * @param from full precision; null: there is none
 * @param lora of the packed model
 */
export function firstWeights(
  linear: Linear,
  packed: AffineWeights,
  from: Checkpoint | null,
  lora: AdapterSource | null,
): FirstWeights {
  const stored = withPositiveScales(packed, linear.name);
  if (from === null) return { stored, values: dequantizeAffine(stored) };
  const { outFeatures, inFeatures } = linear.weight;
  const source = from.linear(linear.name, outFeatures, inFeatures);
  if (source.kind !== "dense") throw new Error(`Cannot train ${linear.name}: ${from.dir} holds it packed`);
  const values = readTensor(source.weight);
  const less = values.slice();
  const strays = moveIntoCells(values, stored, REACH);
  const target = lora?.targets.get(linear.name);
  // DoRA stretches what LoRA is added to: there is no matrix to take it from.
  if (!target || target.magnitude !== null || strays < FEW * values.length) return { stored, values };
  subtract(less, target, inFeatures);
  return { stored, values: moveIntoCells(less, stored, REACH) < strays ? less : values };
}

function subtract(values: Float32Array, { a, b, scale }: LoraTarget, inFeatures: number): void {
  subtractLora(values, { a: readTensor(a), b: readTensor(b) }, inFeatures, scale);
}

/**
 * The same weights with scales as training needs them. A negative scale turns with its integers and zero; a group whose scale is
 * nearly 0 becomes zeros.
 */
function withPositiveScales(weights: AffineWeights, name: string): AffineWeights {
  const { scales, zeros, q, bits, group } = weights;
  const bad = scales.find((scale) => !Number.isFinite(scale));
  if (bad !== undefined) throw new Error(`Cannot train ${name}: received ${bad} as a scale, expected a finite number`);
  if (scales.every((scale) => scale >= LEAST_SCALE)) return weights;
  const last = 2 ** bits - 1;
  const turned = { ...weights, scales: scales.slice(), zeros: zeros.slice(), q: q.slice() };
  for (const [g, scale] of scales.entries()) {
    if (scale >= LEAST_SCALE) continue;
    const vanishes = scale > -LEAST_SCALE;
    turned.scales[g] = vanishes ? LEAST_SCALE : -scale;
    turned.zeros[g] = vanishes ? zeros[g]! : last - zeros[g]!;
    for (let i = g * group; i < (g + 1) * group; i++) turned.q[i] = vanishes ? zeros[g]! : last - q[i]!;
  }
  return turned;
}

/** Why `from` cannot give a model its first weights; null where it can. */
export function otherArchitecture(from: Checkpoint, config: DecoderConfig): string | null {
  const { hiddenSize, intermediateSize, layers, heads, kvHeads, headDim } = parseConfig(from.config, from.dir);
  const found = { hiddenSize, intermediateSize, layers, heads, kvHeads, headDim };
  const [other] = Object.entries(found).filter(([name, value]) => config[name as keyof typeof found] !== value);
  if (other) return `it has ${other[0]} ${other[1]}, expected ${config[other[0] as keyof typeof found]}`;
  return from.quantization === undefined ? null : "its weights are packed, expected full precision";
}
