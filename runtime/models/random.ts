/** A decoder with random packed weights: the shape of a model without its files, for benchmarks. */
import {
  type Context,
  type DeviceBuffer,
  GPTQ_V2,
  type Ref,
  WEIGHT_AFFINE,
  type Weight,
  type WeightShape,
  ZERO_INTEGER,
} from "../../ffi/mod.ts";
import type { DecoderConfig } from "./config.ts";
import type { LoadedDecoder } from "./load.ts";
import { PackedArena } from "./packed_arena.ts";
import { inverseFrequencies } from "./rope.ts";
import type { BlockWeights, Linear, Norm } from "./weights.ts";

export interface RandomOptions {
  bits: 2 | 3 | 4 | 8;
  group: 32 | 64 | 128;
  /** Width of embedding and head. */
  headBits: 2 | 3 | 4 | 8;
  seed: number;
}

/** Seven linears of a block: [name, outFeatures, inFeatures], in forward order. */
export function blockShapes(c: DecoderConfig): readonly (readonly [string, number, number])[] {
  const queries = c.heads * c.headDim;
  const keys = c.kvHeads * c.headDim;
  return [
    ["self_attn.q_proj", queries, c.hiddenSize],
    ["self_attn.k_proj", keys, c.hiddenSize],
    ["self_attn.v_proj", keys, c.hiddenSize],
    ["self_attn.o_proj", c.hiddenSize, queries],
    ["mlp.gate_proj", c.intermediateSize, c.hiddenSize],
    ["mlp.up_proj", c.intermediateSize, c.hiddenSize],
    ["mlp.down_proj", c.hiddenSize, c.intermediateSize],
  ];
}

/** GPTQ-layout words that every matrix is repacked from, so that no matrix has to be made in JavaScript. */
class RandomSource implements Disposable {
  readonly #context: Context;
  readonly #words: DeviceBuffer;
  readonly #scales: DeviceBuffer;

  constructor(context: Context, shapes: readonly WeightShape[], seed: number) {
    this.#context = context;
    const most = (bytes: (shape: WeightShape) => number): number => Math.max(...shapes.map(bytes));
    this.#words = context.alloc(most((s) => (s.inFeatures * s.bits * s.outFeatures) / 8));
    this.#scales = context.alloc(most((s) => (s.inFeatures / s.group) * s.outFeatures * 2));
    const random = xorshift(seed);
    fill(this.#words, new Int32Array(1 << 20), random);
    // float16 from 0.0078 to 0.0156: activations stay in a normal range through all layers.
    fill(this.#scales, new Uint16Array(1 << 20), () => 0x2000 | (random() & 0x3ff));
  }

  repack(weight: Weight): Weight {
    const words: Ref = this.#words.at(0);
    this.#context.weightRepack({
      qweight: words,
      zeros: words,
      scales: this.#scales.at(0),
      weight,
      format: GPTQ_V2,
      releaseSource: 0,
      table: null,
    });
    return weight;
  }

  [Symbol.dispose](): void {
    this.#words[Symbol.dispose]();
    this.#scales[Symbol.dispose]();
  }
}

function fill(buffer: DeviceBuffer, chunk: Int32Array | Uint16Array, next: () => number): void {
  for (let i = 0; i < chunk.length; i++) chunk[i] = next();
  const bytes = new Uint8Array(chunk.buffer);
  for (let at = 0; at < buffer.bytes; at += bytes.length) {
    buffer.upload(bytes.subarray(0, Math.min(bytes.length, buffer.bytes - at)), at);
  }
}

/** Marsaglia's 32-bit xorshift generator; the seed must not be 0. */
function xorshift(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state;
  };
}

/** Makes the decoder of `config` with random weights; norms are 1. Every matrix has memory of its own. */
export function randomDecoder(context: Context, config: DecoderConfig, options: RandomOptions): LoadedDecoder {
  const shape = (outFeatures: number, inFeatures: number, bits: number): WeightShape => ({
    kind: WEIGHT_AFFINE,
    dtype: 0,
    bits,
    group: options.group,
    zero: ZERO_INTEGER,
    outFeatures,
    inFeatures,
  });
  const table = shape(config.vocabSize, config.hiddenSize, options.headBits);
  const perBlock = blockShapes(config);
  const tables = config.tiedEmbeddings ? [table] : [table, table];
  const inBlocks = perBlock.map(([, out, into]) => shape(out, into, options.bits));
  const all = [...tables, ...Array.from({ length: config.layers }, () => inBlocks).flat()];

  const arena = new PackedArena(context, all);
  const vectors = context.alloc((config.hiddenSize + config.headDim) * 4);
  vectors.upload(new Float32Array(config.hiddenSize).fill(1));
  vectors.upload(inverseFrequencies(config.rope, config.headDim), config.hiddenSize * 4);
  const norm: Norm = { weight: vectors.at(0), size: config.hiddenSize };
  using source = new RandomSource(context, all, options.seed);

  const embedding = source.repack(arena.place(table));
  let loraTarget = 0;
  const blocks = Array.from({ length: config.layers }, (_, layer): BlockWeights => {
    const [q, k, v, o, gate, up, down] = perBlock.map(
      ([part], i): Linear => ({
        name: `model.layers.${layer}.${part}`,
        weight: source.repack(arena.place(inBlocks[i])),
        bias: null,
        loraTarget: loraTarget++,
      }),
    );
    return { inputNorm: norm, q, k, v, qNorm: null, kNorm: null, o, postAttentionNorm: norm, gate, up, down };
  });
  const head = config.tiedEmbeddings ? embedding : source.repack(arena.place(table));
  return {
    weights: {
      config,
      embedding,
      blocks,
      finalNorm: norm,
      head: { name: "lm_head", weight: head, bias: null, loraTarget: -1 },
      inverseFrequencies: vectors.at(config.hiddenSize * 4),
    },
    weightBytes: arena.bytes,
    mappedBytes: 0,
    [Symbol.dispose]: () => {
      vectors[Symbol.dispose]();
      arena[Symbol.dispose]();
    },
  };
}
