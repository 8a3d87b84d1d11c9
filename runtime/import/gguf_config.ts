/** config.json out of a GGUF's metadata. */
import { FormatError } from "../formats/failure.ts";
import type { Gguf, GgufValue } from "../formats/gguf.ts";
import type { JsonObject } from "../formats/json.ts";

/** What the import itself needs to know; everything else of the config only passes through. */
export interface GgufShape {
  /** llama.cpp's name; "llama" covers Mistral too. */
  architecture: string;
  heads: number;
  kvHeads: number;
}

const FAMILIES: Readonly<Record<string, { model_type: string; architectures: string[] }>> = {
  llama: { model_type: "llama", architectures: ["LlamaForCausalLM"] },
  qwen2: { model_type: "qwen2", architectures: ["Qwen2ForCausalLM"] },
  qwen3: { model_type: "qwen3", architectures: ["Qwen3ForCausalLM"] },
};

/** @throws {FormatError} for an architecture or a key that is missing or not supported. */
export function shapeOf(gguf: Gguf): GgufShape {
  const architecture = String(gguf.metadata.get("general.architecture") ?? "none");
  const fail = (reason: string, received: unknown, expected: unknown): FormatError =>
    new FormatError("import", { file: gguf.path, reason, received, expected });
  if (!Object.hasOwn(FAMILIES, architecture)) {
    throw fail("unsupported architecture", architecture, Object.keys(FAMILIES).join(", "));
  }
  const parts = gguf.metadata.get("split.count") ?? 1;
  if (Number(parts) > 1)
    throw fail("the model is split into several files; merge them with llama-gguf-split", parts, 1);
  const heads = count(gguf, `${architecture}.attention.head_count`);
  return { architecture, heads, kvHeads: count(gguf, `${architecture}.attention.head_count_kv`, heads) };
}

/** A config.json for a GGUF that has none beside it. */
export function configFromMetadata(gguf: Gguf, { architecture, heads, kvHeads }: GgufShape): JsonObject {
  refuseScaledRope(gguf, architecture);
  const key = (name: string): string => `${architecture}.${name}`;
  const hidden = count(gguf, key("embedding_length"));
  const tokens = gguf.metadata.get("tokenizer.ggml.tokens");
  const embedding = gguf.tensors.find(({ name }) => name === "token_embd.weight");
  return {
    ...FAMILIES[architecture],
    hidden_size: hidden,
    intermediate_size: count(gguf, key("feed_forward_length")),
    num_hidden_layers: count(gguf, key("block_count")),
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: count(gguf, key("attention.key_length"), hidden / heads),
    vocab_size: embedding?.shape[0] ?? (Array.isArray(tokens) ? tokens.length : 0),
    max_position_embeddings: count(gguf, key("context_length")),
    rms_norm_eps: real(gguf, key("attention.layer_norm_rms_epsilon")),
    rope_theta: real(gguf, key("rope.freq_base"), 10000),
    rope_scaling: null,
    hidden_act: "silu",
    attention_bias: gguf.tensors.some(({ name }) => name === "blk.0.attn_output.bias"),
    ...tokenIds(gguf),
  };
}

/** A config.json found beside the GGUF must be that model's. */
export function checkConfig(config: JsonObject, configFile: string, gguf: Gguf, shape: GgufShape): void {
  const key = (name: string): string => `${shape.architecture}.${name}`;
  const expected: Record<string, number> = {
    hidden_size: count(gguf, key("embedding_length")),
    intermediate_size: count(gguf, key("feed_forward_length")),
    num_hidden_layers: count(gguf, key("block_count")),
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.kvHeads,
  };
  for (const [name, value] of Object.entries(expected)) {
    // Older configs leave num_key_value_heads out where it equals num_attention_heads.
    const received = config[name] ?? (name === "num_key_value_heads" ? config.num_attention_heads : undefined);
    if (received === value) continue;
    const reason = `${name} does not match ${gguf.path}, so this config.json belongs to another model`;
    throw new FormatError("use", { file: configFile, reason, received: received ?? "none", expected: value });
  }
}

/** Llama 3.1's scaled frequencies are a tensor in GGUF; what they were made from is only in config.json. */
function refuseScaledRope(gguf: Gguf, architecture: string): void {
  const type = gguf.metadata.get(`${architecture}.rope.scaling.type`) ?? "none";
  const factors = gguf.tensors.some(({ name }) => name === "rope_freqs.weight");
  if (type === "none" && !factors) return;
  const reason = "its rotary scaling cannot be told from the GGUF; put the model's config.json beside it";
  throw new FormatError("import", { file: gguf.path, reason, received: factors ? "rope_freqs.weight" : type });
}

function tokenIds(gguf: Gguf): JsonObject {
  const names = { bos_token_id: "bos_token_id", eos_token_id: "eos_token_id", pad_token_id: "padding_token_id" };
  const ids: JsonObject = {};
  for (const [name, key] of Object.entries(names)) {
    const id = gguf.metadata.get(`tokenizer.ggml.${key}`);
    if (typeof id === "number") ids[name] = id;
  }
  return ids;
}

function count(gguf: Gguf, key: string, otherwise?: number): number {
  const value = toNumber(gguf.metadata.get(key)) ?? otherwise;
  if (value !== undefined && Number.isSafeInteger(value) && value > 0) return value;
  throw badKey(gguf, key, "a positive integer");
}

/** GGUF keeps float32: 7 digits give back the decimal number that was meant (1e-5, not 0.00000999999974). */
function real(gguf: Gguf, key: string, otherwise?: number): number {
  const value = toNumber(gguf.metadata.get(key)) ?? otherwise;
  if (value !== undefined && Number.isFinite(value) && value > 0) return Number(value.toPrecision(7));
  throw badKey(gguf, key, "a positive number");
}

function toNumber(value: GgufValue | undefined): number | undefined {
  return typeof value === "number" || typeof value === "bigint" ? Number(value) : undefined;
}

function badKey(gguf: Gguf, key: string, expected: string): FormatError {
  const received = gguf.metadata.get(key);
  const shown = received === undefined ? "none" : String(received);
  return new FormatError("import", {
    file: gguf.path,
    reason: `bad metadata key ${key}`,
    received: shown,
    expected,
  });
}
