/**
 * What --train-scales and --train-weights make: the model's folder with the trained scales and norms, the same integers or the ones
 * that trained weights round to, and the trained LoRA as its calibrated one.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { writeJson } from "../formats/atomic.ts";
import { INIT_ADAPTER } from "../formats/checkpoint.ts";
import { FINGERPRINT_KEY, makeFingerprint } from "../formats/fingerprint.ts";
import { weightTensors } from "../formats/mod.ts";
import type { TensorToWrite } from "../formats/safetensors_writer.ts";
import { copyCompanions, SHARD_BYTES, writeShards } from "../quantize/assemble.ts";
import { copied } from "../quantize/block_file.ts";
import type { QuantizedLinear } from "../quantize/method.ts";
import { readStored } from "../quantize/read_stored.ts";
import {
  quantizationConfig,
  type StorageSettings,
  storageSettings,
  storedTensors,
} from "../quantize/stored_tensors.ts";
import { scaledWeights } from "../quantize/training/end_to_end.ts";
import { writeLora } from "./adapter_output.ts";
import type { Prepared } from "./prepare.ts";
import type { FinetuneSettings } from "./settings.ts";
import type { Training } from "./training.ts";

/** Writes into `dir`, which exists. One matrix at a time passes through memory, when its turn comes. */
export async function writeTrainedModel(
  dir: string,
  training: Training,
  prepared: Pick<Prepared, "start" | "checkpoint" | "config">,
  settings: Pick<FinetuneSettings, "dropout">,
): Promise<void> {
  const { checkpoint, config, start } = prepared;
  const modules = new Map<string, StorageSettings>();
  const replaced = new Map<string, TensorToWrite>();
  const consumed = new Set<string>();
  for (const linear of training.linears) {
    const { outFeatures, inFeatures } = linear.weight;
    const source = checkpoint.linear(linear.name, outFeatures, inFeatures);
    const stored = (): QuantizedLinear["weights"] =>
      training.weights(linear) ?? scaledWeights(readStored(source), training.factors(linear));
    modules.set(linear.name, source.kind === "dense" ? { family: "dense" } : storageSettings(stored()));
    if (source.kind === "dense") continue;
    for (const { name } of weightTensors(source)) consumed.add(name);
    consumed.add(`${linear.name}.g_idx`);
    for (const tensor of lazily(() => storedTensors(linear.name, stored(), [outFeatures, inFeatures]))) {
      replaced.set(tensor.name, tensor);
    }
  }
  const { vocabSize, hiddenSize, tiedEmbeddings } = config;
  const tables = [
    checkpoint.embedding("model.embed_tokens", vocabSize, hiddenSize),
    ...(tiedEmbeddings ? [] : [checkpoint.linear("lm_head", vocabSize, hiddenSize)]),
  ];
  for (const [i, table] of tables.entries()) {
    const module = i === 0 ? "model.embed_tokens" : "lm_head";
    if (table.kind !== "dense") modules.set(module, storageSettings(readStored(table)));
  }
  for (const [name, values] of training.norms) {
    const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    replaced.set(`${name}.weight`, { name: `${name}.weight`, dtype: "F32", shape: [values.length], data });
  }
  const kept = [...checkpoint.tensors.values()].filter(({ name }) => !consumed.has(name) && !replaced.has(name));
  const hashes = await writeShards(dir, [...kept.map((tensor) => copied(tensor)), ...replaced.values()], SHARD_BYTES);
  const { [FINGERPRINT_KEY]: _, quantization_config: __, ...rest } = checkpoint.config;
  const made = { ...rest, quantization_config: quantizationConfig(modules) };
  await writeJson(join(dir, "config.json"), { ...made, [FINGERPRINT_KEY]: makeFingerprint(made, hashes) });
  copyCompanions(checkpoint.dir, dir);
  if (training.loras.length === 0) return;
  mkdirSync(join(dir, INIT_ADAPTER));
  await writeLora(join(dir, INIT_ADAPTER), training, start, settings, "F16");
}

/** The tensors' data is made anew when each is written. */
function lazily(make: () => readonly TensorToWrite[]): TensorToWrite[] {
  return make().map(({ name, dtype, shape }, i) => ({
    name,
    dtype,
    shape,
    data: () => {
      const { data } = make()[i]!;
      return typeof data === "function" ? data() : [data];
    },
  }));
}
