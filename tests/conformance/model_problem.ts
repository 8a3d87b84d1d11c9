/** A small packed model with scales and LoRA that train, on the device and in float64. */
import { F16, type Ref, ZERO_FLOAT, ZERO_INTEGER } from "../../ffi/mod.ts";
import { type DecoderConfig, parseConfig } from "../../runtime/models/config.ts";
import { inverseFrequencies } from "../../runtime/models/rope.ts";
import type { BlockWeights, DecoderWeights, Linear, Norm } from "../../runtime/models/weights.ts";
import type { TrainableLinear } from "../../runtime/ops/training.ts";
import { ModelTrainer, nextTokens } from "../../runtime/training/model_trainer.ts";
import { Bench, Random } from "./harness.ts";
import { AffineMatrix, DenseMatrix } from "./linear_problem.ts";
import {
  mergedNorms,
  type ReferenceBlock,
  type ReferenceLinear,
  referenceBlock,
  rmsNorm,
} from "./training_block_reference.ts";

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

export const LENGTH = 7;
const RANK = 4;
const SCALE = 1.5;

export interface Kind {
  readonly sequences: number;
  readonly zero: number;
  readonly lora: "none" | "frozen" | "trained" | "dora";
  /** Blocks whose linears have nothing to learn. */
  readonly frozenBlocks: number;
}

const PLAIN: Kind = { sequences: 1, zero: ZERO_INTEGER, lora: "none", frozenBlocks: 0 };

interface Parameter {
  readonly name: string;
  readonly values: Float64Array;
  readonly gradient: Ref;
  /** Called after a value was changed. */
  readonly changed: () => void;
}

/** A small packed model twice: on the device and in float64. */
export class ModelProblem implements Disposable {
  readonly bench: Bench;
  readonly config: DecoderConfig;
  readonly weights: DecoderWeights;
  readonly trainable = new Map<Linear, TrainableLinear>();
  readonly parameters: Parameter[] = [];
  readonly ids: Int32Array;
  readonly targets: Int32Array;
  readonly kind: Kind;
  readonly #random = new Random(17);
  readonly #blocks: ReferenceBlock[];
  readonly #embedding: Float64Array;
  readonly #head: Float64Array;
  readonly #finalNorm: Float64Array;

  constructor(family: object, kind: Partial<Kind> = {}, threads = 2) {
    this.bench = new Bench("auto", threads);
    this.kind = { ...PLAIN, ...kind };
    this.config = parseConfig({ ...SHAPE, ...family }, "the test");
    const { bench, config } = this;
    const { hiddenSize, vocabSize } = config;
    const frequencies = inverseFrequencies(config.rope, config.headDim);
    const blocks = Array.from({ length: config.layers }, (_, layer) => this.#block(layer, frequencies));
    this.#blocks = blocks.map(({ reference }) => reference);
    const embedding = new DenseMatrix(F16, vocabSize, hiddenSize, this.#random);
    const head = config.tiedEmbeddings ? embedding : new DenseMatrix(F16, vocabSize, hiddenSize, this.#random);
    const finalNorm = this.#norm(hiddenSize);
    [this.#embedding, this.#head, this.#finalNorm] = [embedding.values, head.values, finalNorm.values];
    const table = embedding.put(bench);
    this.weights = {
      config,
      embedding: table,
      blocks: blocks.map(({ device }) => device),
      finalNorm: finalNorm.device,
      head: { name: "head", weight: config.tiedEmbeddings ? table : head.put(bench), bias: null, loraTarget: -1 },
      inverseFrequencies: bench.f32(frequencies),
    };
    const batch = Array.from({ length: this.kind.sequences }, () =>
      nextTokens(Int32Array.from({ length: LENGTH }, () => this.#random.integer(vocabSize))),
    );
    this.ids = Int32Array.from(batch.flatMap(({ ids }) => [...ids]));
    this.targets = Int32Array.from(batch.flatMap(({ targets }) => [...targets]));
  }

  #norm(size: number): { device: Norm; values: Float64Array } {
    const values = this.#random.normals(size, 0.3).map((value) => 1 + value);
    return { device: { weight: this.bench.f32(values), size }, values: Float64Array.from(values) };
  }

  #block(layer: number, frequencies: ArrayLike<number>): { device: BlockWeights; reference: ReferenceBlock } {
    const { config } = this;
    const { hiddenSize: hidden, intermediateSize: inter } = config;
    const [queries, keys] = [config.heads * config.headDim, config.kvHeads * config.headDim];
    const [inputNorm, postAttentionNorm] = [this.#norm(hidden), this.#norm(hidden)];
    const [qNorm, kNorm] = config.qkNorm ? [this.#norm(config.headDim), this.#norm(config.headDim)] : [null, null];
    const linears = [
      this.#linear(layer, "q", queries, hidden, config.qkvBias),
      this.#linear(layer, "k", keys, hidden, config.qkvBias),
      this.#linear(layer, "v", keys, hidden, config.qkvBias),
      this.#linear(layer, "o", hidden, queries, config.outputBias),
      this.#linear(layer, "gate", inter, hidden, config.mlpBias),
      this.#linear(layer, "up", inter, hidden, config.mlpBias),
      this.#linear(layer, "down", hidden, inter, config.mlpBias),
    ];
    const [q, k, v, o, gate, up, down] = linears.map(({ device }) => device);
    return {
      device: {
        inputNorm: inputNorm.device,
        q,
        k,
        v,
        qNorm: qNorm?.device ?? null,
        kNorm: kNorm?.device ?? null,
        o,
        postAttentionNorm: postAttentionNorm.device,
        gate,
        up,
        down,
      },
      reference: {
        config,
        sequences: this.kind.sequences,
        length: LENGTH,
        inverseFrequencies: frequencies,
        inputNorm: inputNorm.values,
        postAttentionNorm: postAttentionNorm.values,
        qNorm: qNorm?.values ?? null,
        kNorm: kNorm?.values ?? null,
        linears: linears.map(({ reference }) => reference),
      },
    };
  }

  #linear(layer: number, part: string, outFeatures: number, inFeatures: number, biased: boolean) {
    const { bench, kind } = this;
    const random = this.#random;
    const name = `${layer}.${part}`;
    const matrix = new AffineMatrix({ bits: 3, group: 32, zero: kind.zero, outFeatures, inFeatures }, random);
    matrix.scales.forEach((_, g) => {
      matrix.scales[g] = 0.04 + 0.04 * random.uniform();
    });
    if (kind.zero === ZERO_FLOAT)
      matrix.zeros.forEach((_, g) => {
        matrix.zeros[g] = -0.15 - 0.12 * random.uniform();
      });
    const stored = matrix.weights();
    const bias = biased ? random.normals(outFeatures, 0.3) : null;
    const device: Linear = { name, weight: matrix.pack(bench), bias: bias && bench.f32(bias), loraTarget: -1 };
    const first = random.normals(stored.length / 32, 0.1).map((value) => 1 + value);
    const factors = Float64Array.from(first);
    const reference: ReferenceLinear = {
      w: new Float64Array(stored.length),
      outFeatures,
      inFeatures,
      bias: bias && Float64Array.from(bias),
      lora: null,
    };
    const multiply = (): void => {
      for (let i = 0; i < stored.length; i++) reference.w[i] = stored[i] * factors[Math.floor(i / 32)];
    };
    multiply();
    const learns = layer >= kind.frozenBlocks;
    const parameter = (of: string, values: Float64Array, changed = (): void => {}): Ref => {
      const gradient = bench.room(values.length);
      this.parameters.push({ name: `${name} ${of}`, values, gradient, changed });
      return gradient;
    };
    const gradient = learns ? parameter("factors", factors, multiply) : null;
    const lora = kind.lora === "none" ? null : this.#lora(reference, kind.lora !== "frozen" && learns, parameter);
    this.trainable.set(device, { weight: null, dweight: null, lora, factors: { value: bench.f32(first), gradient } });
    return { device, reference };
  }

  #lora(
    reference: ReferenceLinear,
    learns: boolean,
    parameter: (of: string, values: Float64Array) => Ref,
  ): TrainableLinear["lora"] {
    const { bench } = this;
    const random = this.#random;
    const { outFeatures, inFeatures } = reference;
    const a = random.normals(RANK * inFeatures, 1 / Math.sqrt(inFeatures));
    const b = random.normals(outFeatures * RANK, 0.3);
    const lora = { a: Float64Array.from(a), b: Float64Array.from(b), rank: RANK, scale: SCALE, dora: null };
    reference.lora = lora;
    const device = {
      a: bench.f32(a),
      b: bench.f32(b),
      da: learns ? parameter("A", lora.a) : null,
      db: learns ? parameter("B", lora.b) : null,
      rank: RANK,
      scale: SCALE,
      dora: null,
    };
    if (this.kind.lora !== "dora") return device;
    const values = random.normals(outFeatures).map((value) => 1 + 0.2 * value);
    const magnitude = Float64Array.from(values);
    reference.lora = { ...lora, dora: { magnitude, norms: mergedNorms(reference) } };
    const dmagnitude = learns ? parameter("magnitude", magnitude) : null;
    return { ...device, dora: { magnitude: bench.f32(values), dmagnitude } };
  }

  trainer(): ModelTrainer {
    const { bench, weights, trainable } = this;
    return new ModelTrainer({
      context: bench.context,
      weights,
      trainable,
      sequences: this.kind.sequences,
      length: LENGTH,
    });
  }

  gradientsOf(parameters = this.parameters): Float32Array[] {
    return parameters.map(({ gradient, values }) => this.bench.read(gradient, values.length));
  }

  /** The sum of -log p(target) in float64. */
  loss(): number {
    const { config, ids, targets } = this;
    const { hiddenSize, vocabSize, rmsNormEps } = config;
    let x = new Float64Array(ids.length * hiddenSize).map(
      (_, i) => this.#embedding[ids[Math.floor(i / hiddenSize)] * hiddenSize + (i % hiddenSize)],
    );
    for (const [layer, block] of this.#blocks.entries()) x = referenceBlock(block, layer, x) as typeof x;
    const normed = rmsNorm(x, this.#finalNorm, rmsNormEps);
    let loss = 0;
    for (const [row, target] of targets.entries()) {
      if (target < 0) continue;
      const logits = Array.from({ length: vocabSize }, (_, token) => {
        let sum = 0;
        for (let i = 0; i < hiddenSize; i++) sum += normed[row * hiddenSize + i] * this.#head[token * hiddenSize + i];
        return sum;
      });
      const highest = Math.max(...logits);
      loss += highest + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - highest), 0)) - logits[target];
    }
    return loss;
  }

  [Symbol.dispose](): void {
    this.bench[Symbol.dispose]();
  }
}
