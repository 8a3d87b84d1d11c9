/** The small models that the trainer of whole models is tested on, and what of them trains. */
import { ZERO_INTEGER } from "../../ffi/mod.ts";
import type { Compute } from "../../runtime/ops/training.ts";
import { FINE_TUNING, type Objective } from "../../runtime/training/objective.ts";

export const SHAPE = {
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
  vocab_size: 37,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
};

export const FAMILIES: Record<string, object> = {
  "llama, tied": { model_type: "llama", tie_word_embeddings: true },
  "mistral with a window": { model_type: "mistral", sliding_window: 3 },
  "qwen2 with biases": { model_type: "qwen2" },
  "qwen3 with q and k norms": { model_type: "qwen3", tie_word_embeddings: true },
};

/** Tokens of a sequence. */
export const LENGTH = 7;

export interface Kind {
  readonly sequences: number;
  readonly zero: number;
  readonly lora: "none" | "frozen" | "trained" | "dora";
  /** Whether another LoRA, which is frozen, belongs to each weight. */
  readonly below: boolean;
  /** Blocks whose linears have nothing to learn. */
  readonly frozenBlocks: number;
  /** Whether scales train. */
  readonly scales: boolean;
  /** Whether all norms train. */
  readonly norms: boolean;
  /** Whether each sequence holds two examples. */
  readonly packed: boolean;
  readonly objective: Objective;
  readonly dropout: number;
  readonly recompute: boolean;
  readonly compute: Compute;
}

export const PLAIN: Kind = {
  sequences: 1,
  zero: ZERO_INTEGER,
  lora: "none",
  below: false,
  frozenBlocks: 0,
  scales: true,
  norms: false,
  packed: false,
  objective: FINE_TUNING,
  dropout: 0,
  recompute: true,
  compute: "f32",
};
