/** The weights of a model's norms while they train. */
import type { Context } from "../../ffi/mod.ts";
import type { DecoderWeights, Norm } from "../models/weights.ts";
import type { TrainableNorm } from "../ops/training.ts";
import { type GroupSettings, ParameterGroup } from "../training/parameters.ts";

/** Every norm of a model with Hugging Face's module name. */
export function namedNorms({ blocks, finalNorm }: DecoderWeights): readonly (readonly [name: string, norm: Norm])[] {
  const inBlocks = blocks.flatMap(({ inputNorm, postAttentionNorm, qNorm, kNorm }, layer) => {
    const at = `model.layers.${layer}`;
    return [
      [`${at}.input_layernorm`, inputNorm],
      [`${at}.post_attention_layernorm`, postAttentionNorm],
      [`${at}.self_attn.q_norm`, qNorm],
      [`${at}.self_attn.k_norm`, kNorm],
    ] as const;
  });
  const present = inBlocks.flatMap(([name, norm]) => (norm === null ? [] : [[name, norm] as const]));
  return [...present, ["model.norm", finalNorm]];
}

export class TrainedNorms implements Disposable {
  readonly parameters: ParameterGroup;
  readonly trainable: ReadonlyMap<Norm, TrainableNorm>;
  readonly #names: ReadonlyMap<string, Norm>;

  constructor(context: Context, weights: DecoderWeights, settings: GroupSettings) {
    const norms = namedNorms(weights);
    const sizes = norms.map(([, { size }]) => size);
    this.parameters = new ParameterGroup(context, sizes, settings);
    this.trainable = new Map(norms.map(([, norm]) => [norm, this.parameters.place(read(norm.weight, norm.size))]));
    this.#names = new Map(norms);
  }

  /** By module name, as they are now, float32 [size]. */
  read(): ReadonlyMap<string, Float32Array> {
    const now = (norm: Norm): Float32Array => read(this.trainable.get(norm)!.value, norm.size);
    return new Map([...this.#names].map(([name, norm]) => [name, now(norm)]));
  }

  [Symbol.dispose](): void {
    this.parameters[Symbol.dispose]();
  }
}

function read({ buffer, offset }: Norm["weight"], size: number): Float32Array {
  return buffer.download(new Float32Array(size), offset);
}
