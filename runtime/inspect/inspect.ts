/** What a model folder holds and what running it takes, from headers alone. */
import { kvBlockBytes } from "../engine/model_runner.ts";
import {
  type AdapterSource,
  type Checkpoint,
  elementCount,
  type LinearSource,
  openCheckpoint,
  type StoredTensor,
  schemeOf,
  weightTensors,
} from "../formats/mod.ts";
import { type DecoderConfig, parseConfig } from "../models/config.ts";
import { KV_BLOCK_SIZE } from "../ops/inference.ts";

/** Code, tokenizer and buffers of all processes together: the most that they may take besides weights, LoRA and KV. */
const RUNTIME_BYTES = 250e6;

export type Part = "linears" | "embedding" | "head" | "other";

export interface PartSize {
  parameters: number;
  /** As stored, scales and zeros included. */
  bytes: number;
}

/** A group of matrices stored alike. */
export interface StorageKind {
  /** Such as "2 bits, groups of 64, integer zero" or "F16". */
  storage: string;
  matrices: number;
  parameters: number;
}

export interface AdapterSummary {
  dir: string;
  rank: number;
  alpha: number;
  rsLora: boolean;
  dora: boolean;
  targets: number;
  parameters: number;
  bytes: number;
}

export interface Inspection {
  dir: string;
  family: string;
  fingerprint: string;
  contextLength: number;
  /** Of the base, a tied head counted once. */
  parameters: number;
  quantization: { method: "gptq" | "apiq" | "none"; storage: StorageKind[] };
  parts: Record<Part, PartSize>;
  /** Bits on disk by parameter of the base: of the blocks' linears and of the whole model. */
  bitsPerWeight: Record<"linears" | "linearsWithLora" | "model" | "modelWithLora", number>;
  /** The LoRA that was calibrated with the model, and is part of it. */
  calibratedLora: AdapterSummary | null;
  adapters: AdapterSummary[];
  memory: MemoryNeed;
}

/** Bytes. */
export interface MemoryNeed {
  contextLength: number;
  sequences: number;
  weights: number;
  lora: number;
  kvCache: number;
  runtime: number;
  total: number;
}

export interface InspectOptions {
  /** Tokens of each sequence; at most the model's own limit, which is the default up to 4096. */
  contextLength?: number;
  sequences?: number;
  /** Adapters that would be loaded too. */
  adapters?: readonly AdapterSource[];
}

/** @throws {FormatError} where the folder could not be loaded either. */
export function inspectModel(dir: string, options: InspectOptions = {}): Inspection {
  const checkpoint = openCheckpoint(dir);
  const config = parseConfig(checkpoint.config, `${dir}/config.json`);
  const matrices = matricesOf(checkpoint, config);
  const parts = sizesOf(checkpoint, matrices);
  const calibratedLora = checkpoint.initAdapter === undefined ? null : summarize(checkpoint.initAdapter);
  const adapters = (options.adapters ?? []).map(summarize);
  const loraBytes = calibratedLora?.bytes ?? 0;
  const loraParameters = adapters.reduce((sum, adapter) => sum + adapter.parameters, calibratedLora?.parameters ?? 0);
  const all = Object.values(parts);
  const parameters = all.reduce((sum, part) => sum + part.parameters, 0);
  const bytes = all.reduce((sum, part) => sum + part.bytes, 0);
  const bits = (stored: number, count: number): number => (stored * 8) / count;
  return {
    dir,
    family: config.family.name,
    fingerprint: checkpoint.fingerprint,
    contextLength: config.maxPositions,
    parameters,
    quantization: { method: checkpoint.quantization?.method ?? "none", storage: storageKinds(matrices) },
    parts,
    bitsPerWeight: {
      linears: bits(parts.linears.bytes, parts.linears.parameters),
      linearsWithLora: bits(parts.linears.bytes + loraBytes, parts.linears.parameters),
      model: bits(bytes, parameters),
      modelWithLora: bits(bytes + loraBytes, parameters),
    },
    calibratedLora,
    adapters,
    memory: memoryNeed(config, bytes, loraParameters, options),
  };
}

interface Matrix {
  part: Exclude<Part, "other">;
  source: LinearSource;
}

/** Every matrix of the model, checked as the loader checks it. A tied head is the embedding and not listed. */
function matricesOf(checkpoint: Checkpoint, config: DecoderConfig): Matrix[] {
  const matrices: Matrix[] = [];
  for (const [name, tensor] of checkpoint.tensors) {
    const [, module, kind] = /^(.+)\.(weight|qweight)$/.exec(name) ?? [];
    if (module === undefined || tensor.shape.length !== 2) continue;
    if (module === "lm_head" && config.tiedEmbeddings) continue;
    const [outFeatures, inFeatures] = kind === "weight" ? tensor.shape : packedShape(checkpoint, module, tensor);
    const source = checkpoint.linear(module, outFeatures!, inFeatures!);
    const part = module === "lm_head" ? "head" : module === "model.embed_tokens" ? "embedding" : "linears";
    matrices.push({ part, source });
  }
  return matrices;
}

function packedShape(checkpoint: Checkpoint, module: string, { shape }: StoredTensor): number[] {
  const { quantization } = checkpoint;
  const bits = quantization === undefined ? 32 : schemeOf(quantization, module).bits;
  return [shape[1]!, Math.floor((shape[0]! * 32) / bits)];
}

function sizesOf(checkpoint: Checkpoint, matrices: readonly Matrix[]): Record<Part, PartSize> {
  const parts: Record<Part, PartSize> = {
    linears: { parameters: 0, bytes: 0 },
    embedding: { parameters: 0, bytes: 0 },
    head: { parameters: 0, bytes: 0 },
    other: { parameters: 0, bytes: 0 },
  };
  for (const { part, source } of matrices) {
    parts[part].parameters += source.outFeatures * source.inFeatures;
    parts[part].bytes += weightTensors(source).reduce((sum, { bytes }) => sum + bytes, 0);
  }
  // Norms and biases.
  for (const tensor of checkpoint.tensors.values()) {
    if (tensor.shape.length !== 1 || !/\.(weight|bias)$/.test(tensor.name)) continue;
    parts.other.parameters += elementCount(tensor.shape);
    parts.other.bytes += tensor.bytes;
  }
  return parts;
}

function storageKinds(matrices: readonly Matrix[]): StorageKind[] {
  const kinds = new Map<string, StorageKind>();
  for (const { source } of matrices) {
    const storage = describeStorage(source);
    const kind = kinds.get(storage) ?? { storage, matrices: 0, parameters: 0 };
    kind.matrices++;
    kind.parameters += source.outFeatures * source.inFeatures;
    kinds.set(storage, kind);
  }
  return [...kinds.values()].sort((a, b) => b.parameters - a.parameters);
}

function describeStorage(source: LinearSource): string {
  switch (source.kind) {
    case "dense":
      return source.weight.dtype;
    case "affine":
      return `${source.bits} bits, groups of ${source.group}, ${source.zero} zero`;
    case "lut": {
      const scales = "codes" in source.scales ? ", 8-bit scales" : "";
      return `${source.bits} bits, groups of ${source.group}, table${scales}`;
    }
  }
}

function summarize({ dir, rank, alpha, rsLora, targets }: AdapterSource): AdapterSummary {
  const tensors = [...targets.values()].flatMap(({ a, b, magnitude }) => [a, b, ...(magnitude ? [magnitude] : [])]);
  const parameters = tensors.reduce((sum, { shape }) => sum + elementCount(shape), 0);
  const bytes = tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
  const dora = [...targets.values()].some(({ magnitude }) => magnitude);
  return { dir, rank, alpha, rsLora, dora, targets: targets.size, parameters, bytes };
}

/**
 * What serving takes.
 *
 * @param weights bytes of the base
 * @param loraParameters of all adapters that are loaded, the calibrated one counted
 */
export function memoryNeed(
  config: DecoderConfig,
  weights: number,
  loraParameters: number,
  options: Pick<InspectOptions, "contextLength" | "sequences">,
): MemoryNeed {
  const contextLength = Math.min(options.contextLength ?? 4096, config.maxPositions);
  const sequences = options.sequences ?? 1;
  // Adapters are held in float16, whatever they are stored in.
  const lora = 2 * loraParameters;
  const kvCache = sequences * Math.ceil(contextLength / KV_BLOCK_SIZE) * kvBlockBytes(config, "f16");
  const total = weights + lora + kvCache + RUNTIME_BYTES;
  return { contextLength, sequences, weights, lora, kvCache, runtime: RUNTIME_BYTES, total };
}
