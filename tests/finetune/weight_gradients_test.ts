/**
 * Gradients of weights, scales and zeros that train through rounding, against central differences of a whole model in float64 in
 * which the rounding residuals stand still: the function that a straight-through estimator differentiates.
 */
import { assert } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Context } from "../../ffi/mod.ts";
import { firstWeights } from "../../runtime/finetune/first_weights.ts";
import { TrainedWeights } from "../../runtime/finetune/trained_weights.ts";
import { type Checkpoint, openCheckpoint, readTensor } from "../../runtime/formats/mod.ts";
import { parseConfig } from "../../runtime/models/config.ts";
import { type LoadedDecoder, loadDecoder } from "../../runtime/models/load.ts";
import { inverseFrequencies } from "../../runtime/models/rope.ts";
import { blockLinears, type Linear } from "../../runtime/models/weights.ts";
import type { AffineWeights } from "../../runtime/quantize/method.ts";
import { readStored } from "../../runtime/quantize/read_stored.ts";
import { FrozenLora } from "../../runtime/training/frozen_lora.ts";
import { ModelTrainer, nextTokens, type TokenBatch } from "../../runtime/training/model_trainer.ts";
import { Random } from "../conformance/harness.ts";
import { type ReferenceLinear, referenceBlock, rmsNorm } from "../conformance/training_block_reference.ts";
import { createDenseModel } from "../fixtures/dense_model.ts";
import { packed, temporaryFolder } from "./run.ts";

const LENGTH = 6;
const STEP = 1e-5;
/** Stored scales times this: then some weights lie beyond the outermost integers. */
const NARROWER = 0.8;

interface Parameter {
  readonly name: string;
  readonly values: Float64Array;
  readonly gradients: Float32Array;
  readonly changed: () => void;
}

/** Rounding as it is at the given values, the residuals of which then stand still. */
class Surrogate {
  readonly weights: Float64Array;
  readonly factors: Float64Array;
  readonly zeros: Float64Array;
  readonly #first: Float64Array;
  readonly #last: number;
  readonly #group: number;
  /** Of each weight: the integer less zero and w / scale where it is inside, else the outermost integer. */
  readonly #inside: Float64Array;
  readonly #edge: Float64Array;

  constructor(weights: Float32Array, { scales, zeros, bits, group }: AffineWeights) {
    this.weights = Float64Array.from(weights);
    this.factors = new Float64Array(scales.length).fill(1);
    this.zeros = Float64Array.from(zeros);
    this.#first = Float64Array.from(scales);
    this.#last = 2 ** bits - 1;
    this.#group = group;
    const residuals = [...weights].map((weight, i) => {
      const g = Math.floor(i / group);
      const steps = Math.fround(weight / scales[g]!);
      const n = roundToEven(steps) + zeros[g]!;
      return n < 0 || n > this.#last ? Number.NaN : n - zeros[g]! - weight / scales[g]!;
    });
    this.#inside = Float64Array.from(residuals);
    this.#edge = Float64Array.from(weights, (weight) => (weight < 0 ? 0 : this.#last));
  }

  get outside(): number {
    return this.#inside.filter(Number.isNaN).length;
  }

  write(w: Float64Array): void {
    for (let i = 0; i < w.length; i++) {
      const g = Math.floor(i / this.#group);
      const scale = this.factors[g]! * this.#first[g]!;
      const inside = this.weights[i]! + scale * this.#inside[i]!;
      w[i] = Number.isNaN(inside) ? scale * (this.#edge[i]! - this.zeros[g]!) : inside;
    }
  }
}

function roundToEven(value: number): number {
  const up = Math.round(value);
  return up - value === 0.5 && up % 2 !== 0 ? up - 1 : up;
}

/** Some places of every parameter; errors are relative to the gradient's root mean square. */
function check(parameters: readonly Parameter[], loss: () => number): void {
  const random = new Random(3);
  for (const { name, values, gradients, changed } of parameters) {
    const size = Math.sqrt(gradients.reduce((sum, value) => sum + value * value, 0) / gradients.length);
    assert(size > 0, `the gradient of ${name} is zero`);
    for (let place = 0; place < 2; place++) {
      const i = random.integer(values.length);
      const value = values[i]!;
      const [above, below] = [STEP, -STEP].map((step) => {
        values[i] = value + step;
        changed();
        return loss();
      });
      values[i] = value;
      changed();
      const expected = (above! - below!) / (2 * STEP);
      const error = Math.abs(gradients[i]! - expected) / size;
      assert(error < 1e-3, `${name}[${i}] is ${gradients[i]}, expected ${expected}: off by ${error}`);
    }
  }
}

/** The model in float64, its linears with the given weights [out, in]; the sum of -log p over the targets of a batch. */
function floatLoss(
  checkpoint: Checkpoint,
  { weights }: LoadedDecoder,
  matrices: ReadonlyMap<Linear, Float64Array>,
  batch: TokenBatch,
): () => number {
  const { config } = weights;
  const { hiddenSize, vocabSize, rmsNormEps } = config;
  const read = (tensor: string): Float64Array => Float64Array.from(readTensor(checkpoint.tensor(tensor)));
  const reference = (linear: Linear): ReferenceLinear => {
    const { outFeatures, inFeatures } = linear.weight;
    const { a, b, rank, scale } = checkpoint.initAdapter!.targets.get(linear.name)!;
    const [left, right] = [a, b].map((tensor) => Float64Array.from(readTensor(tensor)));
    const lora = { a: left!, b: right!, rank, scale, dora: null };
    return {
      w: matrices.get(linear)!,
      outFeatures,
      inFeatures,
      bias: linear.bias && read(`${linear.name}.bias`),
      lora,
    };
  };
  const blocks = weights.blocks.map((block, layer) => ({
    config,
    sequences: 1,
    length: LENGTH,
    inverseFrequencies: inverseFrequencies(config.rope, config.headDim),
    inputNorm: read(`model.layers.${layer}.input_layernorm.weight`),
    postAttentionNorm: read(`model.layers.${layer}.post_attention_layernorm.weight`),
    qNorm: null,
    kNorm: null,
    linears: blockLinears(block).map(reference),
  }));
  const embedding = read("model.embed_tokens.weight");
  const finalNorm = read("model.norm.weight");
  const rowOf = (token: number): Float64Array => embedding.subarray(token * hiddenSize, (token + 1) * hiddenSize);
  return () => {
    let x = Float64Array.from([...batch.ids].flatMap((id) => [...rowOf(id)]));
    for (const [layer, block] of blocks.entries()) x = Float64Array.from(referenceBlock(block, layer, x));
    const normed = rmsNorm(x, finalNorm, rmsNormEps);
    let total = 0;
    for (const [row, target] of batch.targets.entries()) {
      if (target < 0) continue;
      const hidden = normed.subarray(row * hiddenSize, (row + 1) * hiddenSize);
      const logits = Array.from({ length: vocabSize }, (_, token) => {
        return rowOf(token).reduce((sum, value, i) => sum + value * hidden[i]!, 0);
      });
      const most = Math.max(...logits);
      total += most + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - most), 0)) - logits[target]!;
    }
    return total;
  };
}

describe("weights that train", () => {
  for (const [bits, recompute] of [
    [2, true],
    [3, false],
  ] as const) {
    it(`in ${bits} bits have the gradients of a float64 model, and so have scales and zeros`, async () => {
      using dense = await createDenseModel({ family: "qwen2", hidden: 64, intermediate: 96, tied: true });
      using folder = temporaryFolder();
      const dir = await packed(dense.dir, folder.dir, "apiq-bw", { bits, group: 32, rank: 4, alpha: 8 });
      const checkpoint = openCheckpoint(dir);
      const config = parseConfig(checkpoint.config, dir);
      using context = Context.open({ threads: 1 });
      using model = loadDecoder(context, checkpoint, config);
      const linears = model.weights.blocks.flatMap(blockLinears);
      const from = openCheckpoint(dense.dir);
      const surrogates = new Map<Linear, Surrogate>();
      const first = (linear: Linear) => {
        const { outFeatures, inFeatures } = linear.weight;
        const source = readStored(checkpoint.linear(linear.name, outFeatures, inFeatures)) as AffineWeights;
        const { values } = firstWeights(linear, source, from, null);
        const narrower = new Float32Array(new Float16Array(source.scales.map((scale) => NARROWER * scale)));
        const stored = { ...source, scales: narrower };
        surrogates.set(linear, new Surrogate(values, stored));
        return { stored, values };
      };
      const settings = { learningRate: 0, weightDecay: 0 };
      using trained = new TrainedWeights(context, linears, first, { weights: settings, grid: settings });
      using loras = new FrozenLora(context, checkpoint.initAdapter!, linears);
      const trainable = new Map(
        linears.map((linear) => [linear, { ...trained.trainable(linear)!, lora: loras.linears.get(linear)! }]),
      );
      const options = { context, weights: model.weights, trainable, sequences: 1, length: LENGTH, recompute };
      using trainer = new ModelTrainer(options);
      const batch = nextTokens(Int32Array.from({ length: LENGTH }, (_, i) => (i * 37 + 5) % config.vocabSize));
      trained.prepare();
      const { sum } = trainer.gradients(batch, 1, false);
      trained.backward();

      const matrices = new Map(
        linears.map((linear) => [linear, new Float64Array(linear.weight.outFeatures * linear.weight.inFeatures)]),
      );
      for (const [linear, w] of matrices) surrogates.get(linear)!.write(w);
      const loss = floatLoss(checkpoint, model, matrices, batch);
      assert(Math.abs(sum / loss() - 1) < 1e-5, `the loss is ${sum}, expected ${loss()}`);
      const parameters = linears.flatMap((linear) => {
        const surrogate = surrogates.get(linear)!;
        assert(surrogate.outside > 0, `${linear.name} has no weight beyond its integers`);
        const changed = (): void => surrogate.write(matrices.get(linear)!);
        const found = trained.linears.get(linear)!.parameters();
        return (["weights", "factors", "zeros"] as const).map((part): Parameter => {
          const { gradients } = found[part];
          return { name: `${linear.name} ${part}`, values: surrogate[part], gradients, changed };
        });
      });
      check(parameters, loss);
    });
  }
});
