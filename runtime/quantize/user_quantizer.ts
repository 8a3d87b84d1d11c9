/**
 * Quantizers from a file of the user's own: `apiq quantize --quantizer ./mine.ts`. The file's default export is a `UserQuantizer`;
 * scripts/recipes has an example.
 */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { Linear } from "../models/weights.ts";
import { blockLinears } from "../models/weights.ts";
import { bitsOf } from "./bits_for.ts";
import { readDense } from "./dense.ts";
import { oneLine } from "./failures.ts";
import { roundToHalf } from "./lut.ts";
import type { BlockJob, QuantizationMethod, QuantizedLinear, StoredWeights } from "./method.ts";

/** What a quantizer may want to know about the matrix it is given. */
export interface QuantizerInfo {
  /** Hugging Face's module name, such as model.layers.0.self_attn.q_proj. */
  readonly module: string;
  readonly layer: number;
  readonly outFeatures: number;
  readonly inFeatures: number;
  /** --bits or --bits-for, --group-size and --seed; a quantizer may choose others. */
  readonly bits: 2 | 3 | 4 | 8;
  readonly group: 32 | 64 | 128;
  readonly seed: number;
}

/**
 * A quantizer with a format of its own: any tensors and the function that turns them into weights. `serve` runs no code from model
 * folders, so the weights are stored as `dequantize` gives them, rounded to float16, as a dense matrix: quality can be measured and
 * the model served and finetuned, but it takes 16 bits a weight on disk and in memory.
 */
export interface DequantizableWeights {
  readonly tensors: Readonly<Record<string, ArrayBufferView>>;
  /** @returns float32 [outFeatures, inFeatures] */
  dequantize(tensors: Readonly<Record<string, ArrayBufferView>>, info: QuantizerInfo): Float32Array;
}

export interface UserQuantizer {
  readonly name: string;
  /**
   * @param values float32 [outFeatures, inFeatures]
   * @returns one of the storage families, or tensors with a dequantise function
   */
  quantize(
    values: Float32Array,
    info: QuantizerInfo,
  ): StoredWeights | DequantizableWeights | Promise<StoredWeights | DequantizableWeights>;
}

/** Imports a file and wraps its quantizer as a method. @throws where the file is not one */
export async function loadUserQuantizer(file: string): Promise<QuantizationMethod> {
  let exported: { default?: unknown };
  try {
    exported = await import(pathToFileURL(resolve(file)).href);
  } catch (error) {
    throw new Error(`Cannot load quantizer ${file}: ${loadFailure(file, error)}`);
  }
  const quantizer = exported.default as Partial<UserQuantizer> | null | undefined;
  if (typeof quantizer?.name !== "string" || typeof quantizer.quantize !== "function") {
    throw new Error(`Cannot use quantizer ${file}: its default export must be { name, quantize(values, info) }`);
  }
  return methodOf(quantizer as UserQuantizer, file);
}

/** Bun hides what is wrong with a file in the parts of an AggregateError. */
function loadFailure(file: string, error: unknown): string {
  if (!existsSync(file)) return "it does not exist";
  return error instanceof AggregateError && error.errors.length > 0 ? oneLine(error.errors[0]) : oneLine(error);
}

function methodOf(quantizer: UserQuantizer, file: string): QuantizationMethod {
  return {
    name: quantizer.name,
    summary: `the quantizer of ${file}`,
    source: file,
    needsCalibration: false,
    uses: ["bits", "bitsFor", "group"],
    workingBytes: () => 0,
    quantizeBlock: async (job) => {
      const result = new Map<string, QuantizedLinear>();
      const linears = blockLinears(job.block).filter((linear) => !job.kept.has(linear));
      for (const [step, linear] of linears.entries()) {
        await job.report({ part: linear.name, epoch: 1, epochs: 1, step, steps: linears.length, loss: null });
        result.set(linear.name, { weights: await quantizeOne(quantizer, job, linear), lora: null });
      }
      return result;
    },
  };
}

async function quantizeOne(quantizer: UserQuantizer, job: BlockJob, linear: Linear): Promise<StoredWeights> {
  const { outFeatures, inFeatures } = linear.weight;
  const { group, seed } = job.settings;
  const bits = bitsOf(job, linear);
  const info: QuantizerInfo = { module: linear.name, layer: job.layer, outFeatures, inFeatures, bits, group, seed };
  const stored = await quantizer.quantize(readDense(linear), info);
  if (typeof stored === "object" && stored !== null) {
    if ("family" in stored) return stored;
    if (typeof stored.dequantize === "function") {
      return { family: "dense", values: roundToHalf(stored.dequantize(stored.tensors, info)) };
    }
  }
  const expected = "expected a storage family or { tensors, dequantize }";
  throw new Error(`Cannot use quantizer ${quantizer.name}: for ${linear.name} it gave neither, ${expected}`);
}
