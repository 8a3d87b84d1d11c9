/** A run of the ApiQ authors' code: the model it started from, on a device, and what it recorded. */

import { readFileSync } from "node:fs";
import { type Context, F32, type Ref, WEIGHT_DENSE, type Weight } from "../../ffi/mod.ts";
import { openSafetensors, readTensor } from "../../runtime/formats/mod.ts";
import { type DecoderConfig, parseConfig } from "../../runtime/models/config.ts";
import { inverseFrequencies } from "../../runtime/models/rope.ts";
import type { BlockWeights, DecoderWeights, Linear, Norm } from "../../runtime/models/weights.ts";

export interface ApiqRun {
  readonly config: DecoderConfig;
  /** Hyper-parameters. */
  readonly metadata: Readonly<Record<string, string>>;
  tensor(name: string): Float32Array;
  shape(name: string): readonly number[];
  has(name: string): boolean;
}

export function openRun(folder: string): ApiqRun {
  const path = `${folder}/run.safetensors`;
  const { tensors, metadata } = openSafetensors(path);
  const find = (name: string) => {
    const tensor = tensors.get(name);
    if (!tensor) throw new Error(`${path} has no tensor ${name}`);
    return tensor;
  };
  return {
    config: parseConfig(JSON.parse(readFileSync(`${folder}/config.json`, "utf8")), `${folder}/config.json`),
    metadata,
    tensor: (name) => readTensor(find(name)),
    shape: (name) => find(name).shape,
    has: (name) => tensors.has(name),
  };
}

/** The run's full-precision model, float32 on the device. */
export function loadRun(context: Context, run: ApiqRun): DecoderWeights {
  const { config } = run;
  const put = (values: Float32Array): Ref => {
    const buffer = context.alloc(values.byteLength);
    buffer.upload(values);
    return buffer.at(0);
  };
  const weight = (name: string): Weight => {
    const [outFeatures, inFeatures] = run.shape(name);
    const data = put(run.tensor(name));
    return { data, kind: WEIGHT_DENSE, dtype: F32, bits: 0, group: 0, zero: 0, outFeatures, inFeatures };
  };
  const norm = (name: string): Norm => ({ weight: put(run.tensor(name)), size: config.hiddenSize });
  const linear = (name: string): Linear => ({
    name,
    weight: weight(`base.${name}.weight`),
    bias: null,
    loraTarget: -1,
  });
  const block = (layer: number): BlockWeights => {
    const at = `model.layers.${layer}`;
    return {
      inputNorm: norm(`base.${at}.input_layernorm.weight`),
      q: linear(`${at}.self_attn.q_proj`),
      k: linear(`${at}.self_attn.k_proj`),
      v: linear(`${at}.self_attn.v_proj`),
      qNorm: null,
      kNorm: null,
      o: linear(`${at}.self_attn.o_proj`),
      postAttentionNorm: norm(`base.${at}.post_attention_layernorm.weight`),
      gate: linear(`${at}.mlp.gate_proj`),
      up: linear(`${at}.mlp.up_proj`),
      down: linear(`${at}.mlp.down_proj`),
    };
  };
  return {
    config,
    embedding: weight("base.model.embed_tokens.weight"),
    blocks: Array.from({ length: config.layers }, (_, layer) => block(layer)),
    finalNorm: norm("base.model.norm.weight"),
    head: linear("lm_head"),
    inverseFrequencies: put(inverseFrequencies(config.rope, config.headDim)),
  };
}
