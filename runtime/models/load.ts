/** From a checkpoint's files to a decoder on a device: packed weights are repacked straight from the mapped file. */
import { type Context, type DeviceBuffer, type Ref, WEIGHT_DENSE, type Weight } from "../../ffi/mod.ts";
import {
  type Checkpoint,
  FLOAT_DTYPES,
  type FloatDtype,
  isAligned,
  type LinearSource,
  readTensor,
  type StoredTensor,
} from "../formats/mod.ts";
import type { DecoderConfig } from "./config.ts";
import { PackedArena } from "./packed_arena.ts";
import { copyTensor, DEVICE_DTYPES, describePacked, type PackedSource, repack } from "./repack.ts";
import { inverseFrequencies } from "./rope.ts";
import type { BlockWeights, DecoderWeights, Linear, Norm } from "./weights.ts";

/** A decoder and the buffers it owns. */
export interface LoadedDecoder extends Disposable {
  readonly weights: DecoderWeights;
  /** Bytes of packed and dense weights, and of those how many stay mapped from files. */
  readonly weightBytes: number;
  readonly mappedBytes: number;
}

export type LoadProgress = (done: number, total: number) => void;

/** Collects what a decoder needs, then loads it in one go, so that everything packed lies in one buffer on huge pages. */
class Loader {
  readonly #context: Context;
  readonly #checkpoint: Checkpoint;
  readonly #files = new Map<string, DeviceBuffer>();
  readonly #owned: Disposable[] = [];
  readonly #packed: PackedArena;
  #done = 0;
  readonly #total: number;
  #denseBytes = 0;
  mappedBytes = 0;
  readonly #progress: LoadProgress;

  /** @param sources all matrices that will be asked for */
  constructor(context: Context, checkpoint: Checkpoint, sources: readonly LinearSource[], progress: LoadProgress) {
    this.#context = context;
    this.#checkpoint = checkpoint;
    this.#progress = progress;
    this.#total = sources.length;
    const packed = sources.flatMap((source) => (source.kind === "dense" ? [] : [describePacked(source)]));
    this.#packed = this.#own(new PackedArena(context, packed));
  }

  get weightBytes(): number {
    return this.#packed.bytes + this.#denseBytes;
  }

  matrix(source: LinearSource): Weight {
    const weight = source.kind === "dense" ? this.#dense(source.weight, source) : this.#repack(source);
    this.#progress(++this.#done, this.#total);
    return weight;
  }

  #dense(tensor: StoredTensor, { outFeatures, inFeatures }: { outFeatures: number; inFeatures: number }): Weight {
    this.#denseBytes += tensor.bytes;
    return {
      data: this.#place(tensor),
      kind: WEIGHT_DENSE,
      dtype: DEVICE_DTYPES[tensor.dtype as FloatDtype],
      bits: 0,
      group: 0,
      zero: 0,
      outFeatures,
      inFeatures,
    };
  }

  #repack(source: PackedSource): Weight {
    const weight = this.#packed.place(describePacked(source));
    const staged: DeviceBuffer[] = [];
    repack(this.#context, source, weight, (tensor) => {
      if (isAligned(tensor)) return this.#mapped(tensor);
      const copy = copyTensor(this.#context, tensor);
      staged.push(copy);
      return copy.at(0);
    });
    for (const buffer of staged) buffer[Symbol.dispose]();
    return weight;
  }

  /** A vector as float32, whatever it is stored as. */
  vector(name: string, size: number): Ref {
    const tensor = this.#checkpoint.tensor(name, { dtype: FLOAT_DTYPES, shape: [size] });
    return this.upload(readTensor(tensor));
  }

  upload(values: Float32Array): Ref {
    const buffer = this.#own(this.#context.alloc(values.byteLength));
    buffer.upload(values);
    return buffer.at(0);
  }

  #mapped(tensor: StoredTensor): Ref {
    let file = this.#files.get(tensor.path);
    if (!file) {
      file = this.#own(this.#context.mapFile(tensor.path));
      this.#files.set(tensor.path, file);
    }
    return file.at(tensor.offset);
  }

  /** Where a dense tensor stays: in its mapped file, or in a copy when the file does not align it. */
  #place(tensor: StoredTensor): Ref {
    if (!isAligned(tensor)) return this.#own(copyTensor(this.#context, tensor)).at(0);
    this.mappedBytes += tensor.bytes;
    return this.#mapped(tensor);
  }

  #own<T extends Disposable>(value: T): T {
    this.#owned.push(value);
    return value;
  }

  dispose(): void {
    for (const value of this.#owned.splice(0).reverse()) value[Symbol.dispose]();
  }
}

interface LinearPlan {
  name: string;
  source: LinearSource;
}

/** The seven linears of block `layer`, in forward order. */
function planBlock(checkpoint: Checkpoint, c: DecoderConfig, layer: number): LinearPlan[] {
  const plan = (part: string, outFeatures: number, inFeatures: number, bias: boolean): LinearPlan => {
    const name = `model.layers.${layer}.${part}`;
    const source = checkpoint.linear(name, outFeatures, inFeatures);
    if (bias !== (source.bias !== undefined)) {
      const found = bias ? "nothing" : `${name}.bias`;
      throw new Error(
        `Cannot load ${checkpoint.dir}: ${name} received ${found}, expected ${bias ? "a bias" : "no bias"} for ${c.family.name}`,
      );
    }
    return { name, source };
  };
  const queries = c.heads * c.headDim;
  const keys = c.kvHeads * c.headDim;
  return [
    plan("self_attn.q_proj", queries, c.hiddenSize, c.qkvBias),
    plan("self_attn.k_proj", keys, c.hiddenSize, c.qkvBias),
    plan("self_attn.v_proj", keys, c.hiddenSize, c.qkvBias),
    plan("self_attn.o_proj", c.hiddenSize, queries, c.outputBias),
    plan("mlp.gate_proj", c.intermediateSize, c.hiddenSize, c.mlpBias),
    plan("mlp.up_proj", c.intermediateSize, c.hiddenSize, c.mlpBias),
    plan("mlp.down_proj", c.hiddenSize, c.intermediateSize, c.mlpBias),
  ];
}

/**
 * Loads all weights of a decoder. Everything is checked against the config before anything is mapped.
 * @param progress called after every matrix
 */
export function loadDecoder(
  context: Context,
  checkpoint: Checkpoint,
  config: DecoderConfig,
  progress: LoadProgress = () => {},
): LoadedDecoder {
  const embedding = checkpoint.embedding("model.embed_tokens", config.vocabSize, config.hiddenSize);
  const head = config.tiedEmbeddings ? embedding : checkpoint.linear("lm_head", config.vocabSize, config.hiddenSize);
  const blocks = Array.from({ length: config.layers }, (_, layer) => planBlock(checkpoint, config, layer));
  const matrices = [embedding, ...(config.tiedEmbeddings ? [] : [head]), ...blocks.flat().map((plan) => plan.source)];

  const loader = new Loader(context, checkpoint, matrices, progress);
  try {
    const norm = (name: string, size: number): Norm => ({ weight: loader.vector(`${name}.weight`, size), size });
    let loraTarget = 0;
    const linear = ({ name, source }: LinearPlan): Linear => ({
      name,
      weight: loader.matrix(source),
      bias: source.bias ? loader.upload(readTensor(source.bias)) : null,
      loraTarget: loraTarget++,
    });
    const embeddingWeight = loader.matrix(embedding);
    const weights: DecoderWeights = {
      config,
      embedding: embeddingWeight,
      blocks: blocks.map((plans, layer): BlockWeights => {
        const at = `model.layers.${layer}`;
        const [q, k, v, o, gate, up, down] = plans.map(linear);
        return {
          inputNorm: norm(`${at}.input_layernorm`, config.hiddenSize),
          q,
          k,
          v,
          qNorm: config.qkNorm ? norm(`${at}.self_attn.q_norm`, config.headDim) : null,
          kNorm: config.qkNorm ? norm(`${at}.self_attn.k_norm`, config.headDim) : null,
          o,
          postAttentionNorm: norm(`${at}.post_attention_layernorm`, config.hiddenSize),
          gate,
          up,
          down,
        };
      }),
      finalNorm: norm("model.norm", config.hiddenSize),
      head: {
        name: "lm_head",
        weight: config.tiedEmbeddings ? embeddingWeight : loader.matrix(head),
        bias: null,
        loraTarget: -1,
      },
      inverseFrequencies: loader.upload(inverseFrequencies(config.rope, config.headDim)),
    };
    return {
      weights,
      weightBytes: loader.weightBytes,
      mappedBytes: loader.mappedBytes,
      [Symbol.dispose]: () => loader.dispose(),
    };
  } catch (error) {
    loader.dispose();
    throw error;
  }
}
