/** llama.cpp's tensor names -> Hugging Face's, for the decoder families that share one block. */

const BLOCK_PARTS: Readonly<Record<string, string>> = {
  attn_norm: "input_layernorm",
  ffn_norm: "post_attention_layernorm",
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  attn_q_norm: "self_attn.q_norm",
  attn_k_norm: "self_attn.k_norm",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
};

const TOP_PARTS: Readonly<Record<string, string>> = {
  token_embd: "model.embed_tokens",
  output_norm: "model.norm",
  output: "lm_head",
};

export interface TensorRole {
  /** Such as "model.layers.0.self_attn.q_proj". */
  module: string;
  kind: "weight" | "bias";
  /** Which rotary projection it is, if it is one. */
  rotary?: "q" | "k";
}

/** What a GGUF tensor is, or undefined where no supported family has it. */
export function roleOf(name: string): TensorRole | undefined {
  const [, layer, part, kind] = /^(?:blk\.(\d{1,4})\.)?(\w+)\.(weight|bias)$/.exec(name) ?? [];
  if (part === undefined || (kind !== "weight" && kind !== "bias")) return undefined;
  const parts = layer === undefined ? TOP_PARTS : BLOCK_PARTS;
  if (!Object.hasOwn(parts, part)) return undefined;
  const module = layer === undefined ? parts[part]! : `model.layers.${layer}.${parts[part]}`;
  if (part === "attn_q") return { module, kind, rotary: "q" };
  if (part === "attn_k") return { module, kind, rotary: "k" };
  return { module, kind };
}
