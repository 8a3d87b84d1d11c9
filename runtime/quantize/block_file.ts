/**
 * The file of one finished block, `block-NNN.safetensors`: its packed linears as the model will hold them, their LoRA matrices, and
 * the block's record as metadata. It is what an interrupted run continues from and what the model is assembled from.
 */
import { join } from "node:path";
import { Checkpoint } from "../formats/checkpoint.ts";
import { FormatError } from "../formats/failure.ts";
import { floatsToHalves } from "../formats/floats.ts";
import { parseQuantization } from "../formats/quantization.ts";
import { readBytes, readTensor } from "../formats/read.ts";
import { openSafetensors, type StoredTensor } from "../formats/safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "../formats/safetensors_writer.ts";
import type { LoraMatrices, QuantizedLinear } from "./method.ts";
import { readStored } from "./read_stored.ts";
import type { SourceLinear } from "./source.ts";
import { quantizationConfig, type StorageSettings, storageSettings, storedTensors } from "./stored_tensors.ts";

const RECORD = "apiq_block";

/** Mean loss of each epoch of a block or of a part of it. */
export interface LossCurve {
  /** Linear or group of linears; null: the whole block. */
  readonly part: string | null;
  readonly losses: readonly number[];
}

/** How one linear came out. */
export interface LinearRecord {
  readonly storage: StorageSettings;
  readonly lora: { readonly rank: number; readonly alpha: number; readonly dora: boolean } | null;
  /** |W' - W| / |W| in the Frobenius norm, W' with its LoRA added. */
  readonly error: number;
}

/** What is known about a finished block: a line of quantize.jsonl. */
export interface BlockRecord {
  readonly layer: number;
  readonly seconds: number;
  /** The most memory the process has held so far. */
  readonly peakBytes: number;
  readonly losses: readonly LossCurve[];
  /** |y' - y| / |y| over all samples: the block's output as served against the full-precision model's. null without data. */
  readonly outputError: number | null;
  /** By module name, in forward order. */
  readonly linears: Readonly<Record<string, LinearRecord>>;
}

/** A finished block, opened: header only. */
export interface BlockFile {
  readonly path: string;
  readonly record: BlockRecord;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
}

export function blockPath(dir: string, layer: number): string {
  return join(dir, `block-${String(layer).padStart(3, "0")}.safetensors`);
}

/** @param result of all linears, those that are kept included (as dense) */
export async function writeBlock(
  dir: string,
  linears: readonly SourceLinear[],
  result: ReadonlyMap<string, QuantizedLinear>,
  kept: ReadonlySet<string>,
  record: BlockRecord,
): Promise<void> {
  const tensors = linears.flatMap((linear) => {
    const { module, outFeatures, inFeatures, weight, bias } = linear;
    const { weights, lora } = result.get(module)!;
    const asItIs = kept.has(module) && weight.dtype !== "F32";
    return [
      ...(asItIs ? [copied(weight)] : storedTensors(module, weights, [outFeatures, inFeatures])),
      ...(bias === null ? [] : [copied(bias)]),
      ...(lora === null ? [] : loraTensors(linear, lora)),
    ];
  });
  await writeSafetensors(blockPath(dir, record.layer), tensors, { [RECORD]: JSON.stringify(record) });
}

/** How module `module` is described in a record. */
export function linearRecord({ weights, lora }: QuantizedLinear, error: number): LinearRecord {
  const { rank, alpha, magnitude } = lora ?? {};
  return {
    storage: storageSettings(weights),
    lora: rank === undefined ? null : { rank, alpha: alpha!, dora: magnitude !== null },
    error,
  };
}

/** A tensor of another file, copied in pieces when its turn comes. */
export function copied(tensor: StoredTensor, name: string = tensor.name): TensorToWrite {
  const step = 16 * 2 ** 20;
  return {
    name,
    dtype: tensor.dtype,
    shape: tensor.shape,
    *data() {
      for (let begin = 0; begin < tensor.bytes; begin += step) {
        yield readBytes(tensor, begin, Math.min(step, tensor.bytes - begin));
      }
    },
  };
}

const LORA_PARTS = ["lora_A", "lora_B", "lora_magnitude"] as const;

function loraTensors({ module, outFeatures, inFeatures }: SourceLinear, lora: LoraMatrices): TensorToWrite[] {
  const half = (part: string, shape: number[], values: Float32Array): TensorToWrite => {
    return { name: `${module}.${part}`, dtype: "F16", shape, data: new Uint8Array(floatsToHalves(values).buffer) };
  };
  const matrices = [half("lora_A", [lora.rank, inFeatures], lora.a), half("lora_B", [outFeatures, lora.rank], lora.b)];
  if (lora.magnitude === null) return matrices;
  // Norms of whole rows need float32: float16 would move every weight of the row.
  const data = new Uint8Array(Float32Array.from(lora.magnitude).buffer);
  return [...matrices, { name: `${module}.lora_magnitude`, dtype: "F32", shape: [outFeatures], data }];
}

/** Whether a tensor of a block's file is part of the LoRA, not of the model. */
export function isLora(name: string): boolean {
  return LORA_PARTS.some((part) => name.endsWith(`.${part}`));
}

/** @throws {FormatError} for a file that is no finished block of this kind */
export function openBlock(dir: string, layer: number): BlockFile {
  const path = blockPath(dir, layer);
  const { tensors, metadata } = openSafetensors(path);
  const text = metadata[RECORD];
  if (text === undefined) throw new FormatError("use", { file: path, reason: "it is no block of a quantization run" });
  return { path, tensors, record: JSON.parse(text) as BlockRecord };
}

/** What was stored for every linear of the block. */
export function readBlock(file: BlockFile, linears: readonly SourceLinear[]): Map<string, QuantizedLinear> {
  const modules = new Map(Object.entries(file.record.linears).map(([module, { storage }]) => [module, storage]));
  const config = quantizationConfig(modules);
  const checkpoint = new Checkpoint({
    dir: file.path,
    config: {},
    quantization: config === null ? undefined : parseQuantization(config, file.path),
    tensors: file.tensors,
    fingerprint: "",
    initAdapter: undefined,
  });
  return new Map(
    linears.map(({ module, outFeatures, inFeatures }) => {
      const weights = readStored(checkpoint.linear(module, outFeatures, inFeatures));
      return [module, { weights, lora: readLora(file, module) }];
    }),
  );
}

function readLora({ record, tensors }: BlockFile, module: string): LoraMatrices | null {
  const settings = record.linears[module]?.lora;
  if (settings === undefined || settings === null) return null;
  const [a, b, magnitude] = LORA_PARTS.map((part) => tensors.get(`${module}.${part}`));
  const { rank, alpha } = settings;
  return { a: readTensor(a!), b: readTensor(b!), rank, alpha, magnitude: magnitude ? readTensor(magnitude) : null };
}
