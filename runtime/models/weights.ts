/** A loaded decoder: where its matrices are and how they are stored. Names follow Hugging Face's module names. */
import type { Ref, Weight } from "../../ffi/mod.ts";
import type { DecoderConfig } from "./config.ts";

/** One linear layer y = x W^T + b, with a place in the LoRA slot tables. */
export interface Linear {
  /** Hugging Face's module name, such as model.layers.0.self_attn.q_proj. */
  readonly name: string;
  readonly weight: Weight;
  readonly bias: Ref | null;
  /** Index of this linear among all that adapters can target, or -1 (the head). */
  readonly loraTarget: number;
}

/** A float32 vector of `size` elements. */
export interface Norm {
  readonly weight: Ref;
  readonly size: number;
}

export interface BlockWeights {
  readonly inputNorm: Norm;
  readonly q: Linear;
  readonly k: Linear;
  readonly v: Linear;
  readonly qNorm: Norm | null;
  readonly kNorm: Norm | null;
  readonly o: Linear;
  readonly postAttentionNorm: Norm;
  readonly gate: Linear;
  readonly up: Linear;
  readonly down: Linear;
}

export interface DecoderWeights {
  readonly config: DecoderConfig;
  readonly embedding: Weight;
  readonly blocks: readonly BlockWeights[];
  readonly finalNorm: Norm;
  readonly head: Linear;
  /** float32 [headDim / 2] */
  readonly inverseFrequencies: Ref;
}

/** The seven linears of a block by their place in it, in forward order. */
export function blockLinears(block: BlockWeights): readonly Linear[] {
  return [block.q, block.k, block.v, block.o, block.gate, block.up, block.down];
}
