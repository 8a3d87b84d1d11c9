/** The finished model: blocks, tables, norms, config and adapter put into one Hugging Face folder. */
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { type LoraToWrite, writeAdapter } from "../formats/adapter_writer.ts";
import { writeJson } from "../formats/atomic.ts";
import { INIT_ADAPTER } from "../formats/checkpoint.ts";
import { dtypeBytes, elementCount } from "../formats/dtype.ts";
import { FINGERPRINT_KEY, makeFingerprint, type TensorHash } from "../formats/fingerprint.ts";
import type { JsonObject } from "../formats/json.ts";
import { type TensorToWrite, writeSafetensors } from "../formats/safetensors_writer.ts";
import { type BlockFile, copied, isLora } from "./block_file.ts";
import type { Source } from "./source.ts";
import { quantizationConfig, type StorageSettings } from "./stored_tensors.ts";

/** Tokenizer and other small files of the source that belong to the model. */
const COMPANIONS = [
  "tokenizer.json",
  "tokenizer_config.json",
  "tokenizer.model",
  "vocab.json",
  "merges.txt",
  "added_tokens.json",
  "special_tokens_map.json",
  "chat_template.jinja",
  "chat_template.json",
  "generation_config.json",
  "LICENSE",
  "LICENSE.txt",
  "NOTICE",
];

/** Largest file of tensors; a larger model is split. */
export const SHARD_BYTES = 4e9;

export interface Assembled {
  readonly fingerprint: string;
  /** Of the model's tensors, and of its adapter's. */
  readonly modelBytes: number;
  readonly adapterBytes: number;
  /** Stored bits per weight of the blocks' linears, LoRA counted. */
  readonly bitsPerWeight: number;
  /** Tensors of the source that no such model has. */
  readonly leftOut: readonly string[];
}

/** An embedding or head, as it will be stored. */
export interface StoredTable {
  readonly module: string;
  readonly tensors: readonly TensorToWrite[];
  readonly storage: StorageSettings;
}

/**
 * Writes the model's folder `dir`, which exists and is empty.
 *
 * @param tables embedding, and head where there is one
 * @param onTensor called before each tensor is written; what it throws ends the writing
 */
export async function assemble(
  dir: string,
  source: Source,
  blocks: readonly BlockFile[],
  tables: readonly StoredTable[],
  shardBytes: number = SHARD_BYTES,
  onTensor: (done: number, total: number) => void = () => {},
): Promise<Assembled> {
  const linears = source.blocks.flat();
  const handled = new Set([
    ...linears.flatMap(({ module }) => [`${module}.weight`, `${module}.bias`]),
    ...tables.map(({ module }) => `${module}.weight`),
  ]);
  const rest = [...source.checkpoint.tensors.values()].filter(({ name }) => !handled.has(name));
  const norms = rest.filter(({ name }) => /(_layernorm|_norm|^model\.norm)\.weight$/.test(name));
  const tensors = [
    ...tables.flatMap((table) => table.tensors),
    ...norms.map((tensor) => copied(tensor)),
    ...blocks.flatMap((block) => [...block.tensors.values()].filter(({ name }) => !isLora(name)).map((t) => copied(t))),
  ];
  const hashes = await writeShards(dir, watched(tensors, onTensor), shardBytes);
  const config = modelConfig(source, blocks, tables);
  const fingerprint = makeFingerprint(config, hashes);
  await writeJson(join(dir, "config.json"), { ...config, [FINGERPRINT_KEY]: fingerprint });
  await writeInitAdapter(join(dir, INIT_ADAPTER), source, blocks);
  copyCompanions(source.dir, dir);
  const leftOut = rest
    .filter((tensor) => !norms.includes(tensor) && !isKnownExtra(tensor.name))
    .map(({ name }) => name);
  return { fingerprint, leftOut, ...sizes(source, blocks, tensors) };
}

/** Frequencies that old checkpoints hold, and the copy of the embedding that tied ones do. */
function isKnownExtra(name: string): boolean {
  return name.endsWith("rotary_emb.inv_freq") || name === "lm_head.weight";
}

function modelConfig(source: Source, blocks: readonly BlockFile[], tables: readonly StoredTable[]): JsonObject {
  const modules = new Map<string, StorageSettings>([
    ...blocks.flatMap(({ record }) =>
      Object.entries(record.linears).map(([module, { storage }]) => [module, storage] as const),
    ),
    ...tables.map(({ module, storage }) => [module, storage] as const),
  ]);
  const quantization = quantizationConfig(modules);
  const { [FINGERPRINT_KEY]: _, quantization_config: __, ...config } = source.checkpoint.config;
  return quantization === null ? config : { ...config, quantization_config: quantization };
}

const bytesOf = ({ dtype, shape }: TensorToWrite): number => elementCount(shape) * dtypeBytes(dtype);

function watched(tensors: readonly TensorToWrite[], onTensor: (done: number, total: number) => void): TensorToWrite[] {
  let done = 0;
  return tensors.map((tensor) => ({
    ...tensor,
    data: () => {
      onTensor(done++, tensors.length);
      return typeof tensor.data === "function" ? tensor.data() : [tensor.data];
    },
  }));
}

/** One file, or several with an index where the tensors are more than `shardBytes`. */
export async function writeShards(
  dir: string,
  tensors: readonly TensorToWrite[],
  shardBytes: number,
): Promise<TensorHash[]> {
  const shards: TensorToWrite[][] = [[]];
  let used = 0;
  for (const tensor of tensors) {
    const bytes = bytesOf(tensor);
    if (used > 0 && used + bytes > shardBytes) {
      shards.push([]);
      used = 0;
    }
    shards.at(-1)!.push(tensor);
    used += bytes;
  }
  if (shards.length === 1) return await writeSafetensors(join(dir, "model.safetensors"), tensors);
  const hashes: TensorHash[] = [];
  const weightMap: Record<string, string> = {};
  const digits = (n: number): string => String(n).padStart(5, "0");
  for (const [index, shard] of shards.entries()) {
    const name = `model-${digits(index + 1)}-of-${digits(shards.length)}.safetensors`;
    hashes.push(...(await writeSafetensors(join(dir, name), shard)));
    for (const tensor of shard) weightMap[tensor.name] = name;
  }
  const total = tensors.reduce((sum, tensor) => sum + bytesOf(tensor), 0);
  const index = { metadata: { total_size: total }, weight_map: weightMap };
  await writeJson(join(dir, "model.safetensors.index.json"), index);
  return hashes;
}

/** The calibrated LoRA as a PEFT adapter; nothing where no linear has one. */
async function writeInitAdapter(dir: string, source: Source, blocks: readonly BlockFile[]): Promise<void> {
  const loras = blocks.flatMap(({ record, tensors }) =>
    Object.entries(record.linears).flatMap(([module, { lora }]): LoraToWrite[] => {
      if (lora === null) return [];
      const part = (name: string) => copied(tensors.get(`${module}.${name}`)!);
      const magnitude = lora.dora ? part("lora_magnitude") : null;
      return [{ module, rank: lora.rank, alpha: lora.alpha, a: part("lora_A"), b: part("lora_B"), magnitude }];
    }),
  );
  if (loras.length === 0) return;
  mkdirSync(dir);
  await writeAdapter(dir, { loras, modules: source.blocks.flat().map(({ module }) => module) });
}

export function copyCompanions(from: string, to: string): void {
  for (const name of COMPANIONS) {
    // Not copyFile, which would keep the original's permissions: a read-only source must not make a read-only model.
    if (existsSync(join(from, name)) && statSync(join(from, name)).isFile()) {
      writeFileSync(join(to, basename(name)), readFileSync(join(from, name)));
    }
  }
}

function sizes(source: Source, blocks: readonly BlockFile[], tensors: readonly TensorToWrite[]) {
  const stored = blocks.flatMap((block) => [...block.tensors.values()]);
  const total = (lora: boolean): number =>
    stored.reduce((sum, { name, bytes }) => (isLora(name) === lora ? sum + bytes : sum), 0);
  // g_idx says nothing that a reader does not know, and is not read.
  const index = stored.reduce((sum, { name, bytes }) => (name.endsWith(".g_idx") ? sum + bytes : sum), 0);
  const biases = source.blocks.flat().reduce((sum, { bias }) => sum + (bias?.bytes ?? 0), 0);
  const weights = source.blocks.flat().reduce((sum, linear) => sum + linear.outFeatures * linear.inFeatures, 0);
  return {
    modelBytes: tensors.reduce((sum, tensor) => sum + bytesOf(tensor), 0),
    adapterBytes: total(true),
    bitsPerWeight: (8 * (total(false) + total(true) - index - biases)) / weights,
  };
}
