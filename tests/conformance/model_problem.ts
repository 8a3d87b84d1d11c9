/** A small packed model with scales and LoRA that train, on the device and in float64. */
import { F16, type Ref, ZERO_FLOAT } from "../../ffi/mod.ts";
import { type DecoderConfig, parseConfig } from "../../runtime/models/config.ts";
import { inverseFrequencies } from "../../runtime/models/rope.ts";
import type { BlockWeights, DecoderWeights, Linear, Norm } from "../../runtime/models/weights.ts";
import type { TrainableLinear, TrainableLora, TrainableNorm } from "../../runtime/ops/training.ts";
import { ModelTrainer, nextTokens, type TokenBatch } from "../../runtime/training/model_trainer.ts";
import type { Objective, TeacherTokens } from "../../runtime/training/objective.ts";
import { dropoutMask } from "./dropout_reference.ts";
import { Bench, Random } from "./harness.ts";
import { AffineMatrix, DenseMatrix } from "./linear_problem.ts";
import { type Kind, LENGTH, PLAIN, SHAPE } from "./model_kinds.ts";
import {
  mergedNorms,
  type ReferenceBlock,
  type ReferenceLinear,
  referenceBlock,
  rmsNorm,
} from "./training_block_reference.ts";

/** In forward order. */
const LINEARS = ["q", "k", "v", "o", "gate", "up", "down"];
const RANK = 4;
/** Of dropout. */
const SEED = 9;
const SCALE = 1.5;
/** Where the second example of a packed sequence begins. */
const SECOND_EXAMPLE = 4;

interface Parameter {
  readonly name: string;
  readonly values: Float64Array;
  readonly gradient: Ref;
  /** Called after a value was changed. */
  readonly changed: () => void;
}

/** A small packed model twice: on the device and in float64. */
export class ModelProblem implements Disposable, TokenBatch {
  readonly bench: Bench;
  readonly config: DecoderConfig;
  readonly weights: DecoderWeights;
  readonly trainable = new Map<Linear, TrainableLinear>();
  readonly norms = new Map<Norm, TrainableNorm>();
  readonly parameters: Parameter[] = [];
  readonly ids: Int32Array;
  readonly targets: Int32Array;
  declare positions?: Int32Array;
  declare rowStart?: Int32Array;
  declare teacher?: TeacherTokens;
  readonly draw = 3;
  readonly kind: Kind;
  readonly #random = new Random(17);
  readonly #blocks: ReferenceBlock[];
  readonly #stored: (() => void)[] = [];
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
    const finalNorm = this.#norm(hiddenSize, "final norm");
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
    if (this.kind.packed) this.#pack();
    if (this.kind.objective.kind === "distill") this.teacher = this.#makeTeacher(this.kind.objective.topK);
  }

  /** Every sequence becomes two examples, of which the first one's last row has no target. */
  #pack(): void {
    const place = (row: number): number => row % LENGTH;
    const second = (row: number): boolean => place(row) >= SECOND_EXAMPLE;
    this.positions = this.ids.map((_, row) => place(row) - (second(row) ? SECOND_EXAMPLE : 0));
    this.rowStart = this.ids.map((_, row) => (second(row) ? SECOND_EXAMPLE : 0));
    for (const row of this.ids.keys()) if (place(row) === SECOND_EXAMPLE - 1) this.targets[row] = -1;
    for (const block of this.#blocks) Object.assign(block, { positions: this.positions, rowStart: this.rowStart });
  }

  /** Some tokens of each row with falling probabilities that leave a rest. */
  #makeTeacher(topK: number): TeacherTokens {
    const rows = this.ids.length;
    const ids = new Int32Array(rows * topK);
    const logProbabilities = new Float32Array(rows * topK);
    for (let row = 0; row < rows; row++) {
      const first = this.#random.integer(SHAPE.vocab_size);
      for (let i = 0; i < topK; i++) {
        ids[row * topK + i] = (first + 5 * i) % SHAPE.vocab_size;
        logProbabilities[row * topK + i] = -0.8 - 0.9 * i;
      }
    }
    return { ids, logProbabilities };
  }

  #norm(size: number, name: string): { device: Norm; values: Float64Array } {
    const initial = this.#random.normals(size, 0.3).map((value) => 1 + value);
    const values = Float64Array.from(initial);
    const { norms } = this.kind;
    // Where it trains, the norm's own weight has no part.
    const device: Norm = { weight: norms ? this.bench.room(size) : this.bench.f32(initial), size };
    if (norms) {
      const gradient = this.bench.room(size);
      this.norms.set(device, { value: this.bench.f32(initial), gradient });
      this.parameters.push({ name, values, gradient, changed: () => {} });
    }
    return { device, values };
  }

  #block(layer: number, frequencies: ArrayLike<number>): { device: BlockWeights; reference: ReferenceBlock } {
    const { config } = this;
    const { hiddenSize: hidden, intermediateSize: inter } = config;
    const [queries, keys] = [config.heads * config.headDim, config.kvHeads * config.headDim];
    const norm = (size: number, part: string) => this.#norm(size, `${layer}.${part} norm`);
    const [inputNorm, postAttentionNorm] = [norm(hidden, "input"), norm(hidden, "second")];
    const [qNorm, kNorm] = config.qkNorm ? [norm(config.headDim, "q"), norm(config.headDim, "k")] : [null, null];
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
    const place = 7 * layer + LINEARS.indexOf(part);
    const below = kind.below ? this.#frozenLora(outFeatures, inFeatures) : null;
    const multiply = (): void => {
      for (let i = 0; i < stored.length; i++) {
        reference.w[i] = stored[i] * factors[Math.floor(i / 32)] + (below?.product[i] ?? 0);
      }
    };
    multiply();
    const learns = layer >= kind.frozenBlocks;
    const parameter = (of: string, values: Float64Array, changed = (): void => {}): Ref => {
      const gradient = bench.room(values.length);
      this.parameters.push({ name: `${name} ${of}`, values, gradient, changed });
      return gradient;
    };
    const gradient = learns && kind.scales ? parameter("factors", factors, multiply) : null;
    const lora =
      kind.lora === "none" ? null : this.#lora(reference, kind.lora !== "frozen" && learns, parameter, place);
    this.#stored.push(() => reference.w.set(stored));
    this.trainable.set(device, {
      weight: null,
      dweight: null,
      lora,
      factors: { value: bench.f32(first), gradient },
      below: below?.device ?? null,
    });
    return { device, reference };
  }

  /** On the device, and scale B A in float64. */
  #frozenLora(outFeatures: number, inFeatures: number): { device: TrainableLora; product: Float64Array } {
    const rank = 2;
    const a = this.#random.normals(rank * inFeatures, 1 / Math.sqrt(inFeatures));
    const b = this.#random.normals(outFeatures * rank, 0.3);
    const product = Float64Array.from({ length: outFeatures * inFeatures }, (_, i) => {
      const [row, column] = [Math.floor(i / inFeatures), i % inFeatures];
      return SCALE * (b[row * rank] * a[column] + b[row * rank + 1] * a[inFeatures + column]);
    });
    const refs = { a: this.bench.f32(a), b: this.bench.f32(b), da: null, db: null };
    return { device: { ...refs, rank, scale: SCALE, dora: null }, product };
  }

  #lora(
    reference: ReferenceLinear,
    learns: boolean,
    parameter: (of: string, values: Float64Array) => Ref,
    place: number,
  ): TrainableLinear["lora"] {
    const { bench } = this;
    const random = this.#random;
    const { outFeatures, inFeatures } = reference;
    const a = random.normals(RANK * inFeatures, 1 / Math.sqrt(inFeatures));
    const b = random.normals(outFeatures * RANK, 0.3);
    const lora = { a: Float64Array.from(a), b: Float64Array.from(b), rank: RANK, scale: SCALE, dora: null };
    reference.lora = { ...lora, dropout: learns ? this.#dropout(place) : undefined };
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
    reference.lora = { ...reference.lora, dora: { magnitude, norms: mergedNorms(reference) } };
    const dmagnitude = learns ? parameter("magnitude", magnitude) : null;
    return { ...device, dora: { magnitude: bench.f32(values), dmagnitude } };
  }

  /** Of the input of the linear at a place. */
  #dropout(place: number): ((x: Float64Array) => Float64Array) | undefined {
    const { dropout } = this.kind;
    if (dropout === 0) return undefined;
    const stream = BigInt(this.draw * 2 ** 16 + place);
    return (x) => {
      const kept = dropoutMask(x.length, BigInt(SEED), stream, dropout);
      return x.map((value, i) => (kept[i] ? value / (1 - dropout) : 0));
    };
  }

  trainer(): ModelTrainer {
    const { bench, weights, trainable, norms, kind } = this;
    const { sequences, objective, recompute, compute } = kind;
    return new ModelTrainer({
      ...{ context: bench.context, weights, trainable, norms, sequences, length: LENGTH, objective },
      ...{ recompute, compute, dropout: { probability: kind.dropout, seed: SEED } },
    });
  }

  gradientsOf(parameters = this.parameters): Float32Array[] {
    return parameters.map(({ gradient, values }) => this.bench.read(gradient, values.length));
  }

  /** What the objective minimises, in float64. */
  loss(): number {
    const { objective } = this.kind;
    let loss = 0;
    for (const [row, logits] of this.logits()) {
      const nll = -logSoftmax(logits, 1)[this.targets[row]];
      if (objective.kind === "sft") loss += nll;
      else loss += (1 - objective.mix) * objective.temperature ** 2 * this.#kl(row, logits) + objective.mix * nll;
    }
    return loss;
  }

  /** From here on the float64 model has the weights as they are stored, without factors. */
  storedWeights(): void {
    for (const store of this.#stored) store();
  }

  /** Of the rows that have a target, in float64. */
  logits(): ReadonlyMap<number, readonly number[]> {
    const { config, ids, targets } = this;
    const { hiddenSize, vocabSize, rmsNormEps } = config;
    let x = new Float64Array(ids.length * hiddenSize).map(
      (_, i) => this.#embedding[ids[Math.floor(i / hiddenSize)] * hiddenSize + (i % hiddenSize)],
    );
    for (const [layer, block] of this.#blocks.entries()) x = referenceBlock(block, layer, x) as typeof x;
    const normed = rmsNorm(x, this.#finalNorm, rmsNormEps);
    const rows = [...targets.keys()].filter((row) => targets[row] >= 0);
    return new Map(
      rows.map((row) => {
        const logits = Array.from({ length: vocabSize }, (_, token) => {
          let sum = 0;
          for (let i = 0; i < hiddenSize; i++) sum += normed[row * hiddenSize + i] * this.#head[token * hiddenSize + i];
          return sum;
        });
        return [row, logits];
      }),
    );
  }

  /** KL(teacher || student) of a row. */
  #kl(row: number, logits: readonly number[]): number {
    const { topK, temperature } = this.kind.objective as Extract<Objective, { kind: "distill" }>;
    const { ids, logProbabilities } = this.teacher as TeacherTokens;
    const logQ = logSoftmax(logits, temperature);
    let [kl, restOfP, restOfQ] = [0, 1, 1];
    for (let i = row * topK; i < (row + 1) * topK; i++) {
      const p = Math.exp(logProbabilities[i]);
      const q = logQ[ids[i]];
      kl += p * (logProbabilities[i] - q);
      restOfP -= p;
      restOfQ -= Math.exp(q);
    }
    return kl + restOfP * Math.log(restOfP / restOfQ);
  }

  [Symbol.dispose](): void {
    this.bench[Symbol.dispose]();
  }
}

export function logSoftmax(logits: readonly number[], temperature: number): number[] {
  const scaled = logits.map((logit) => logit / temperature);
  const highest = Math.max(...scaled);
  const total = highest + Math.log(scaled.reduce((sum, logit) => sum + Math.exp(logit - highest), 0));
  return scaled.map((logit) => logit - total);
}
