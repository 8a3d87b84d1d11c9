/** The training ops over a whole decoder block against a float64 block: values, and every gradient by central differences. */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { F32, type Ref, WEIGHT_DENSE, type Weight, ZERO_INTEGER } from "../../ffi/mod.ts";
import { type DecoderConfig, parseConfig } from "../../runtime/models/config.ts";
import { decoderBlock } from "../../runtime/models/decoder.ts";
import { inverseFrequencies } from "../../runtime/models/rope.ts";
import { type BlockWeights, blockLinears, type Linear } from "../../runtime/models/weights.ts";
import { type TrainableLinear, TrainingOps, trainingArenaBytes } from "../../runtime/ops/training.ts";
import { Arena, type Tensor } from "../../runtime/tensor.ts";
import { Bench, Random } from "./harness.ts";
import { AffineMatrix } from "./linear_problem.ts";
import {
  mergedNorms,
  type ReferenceBlock,
  type ReferenceLinear,
  referenceBlock,
  rmsNorm,
} from "./training_block_reference.ts";

const SHAPE = {
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 1,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
  vocab_size: 32,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
};

const LLAMA3 = {
  rope_type: "llama3",
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 16,
};

const FAMILIES: Record<string, object> = {
  llama: { model_type: "llama" },
  "llama 3": { model_type: "llama", rope_theta: 500000, rope_scaling: LLAMA3 },
  "mistral with a window": { model_type: "mistral", sliding_window: 3 },
  "qwen2 with biases": { model_type: "qwen2" },
  "qwen3 with q and k norms": { model_type: "qwen3" },
  "llama with all biases": { model_type: "llama", attention_bias: true, mlp_bias: true },
};

const SEQUENCES = 2;
const LENGTH = 7;
const ROWS = SEQUENCES * LENGTH;
const RANK = 5;
const SCALE = 1.5;

interface Kind {
  /** The base is packed and frozen; else it is dense and has a gradient. */
  readonly packed: boolean;
  readonly lora: boolean;
  readonly dora: boolean;
}

/** A tensor that has a gradient: where the reference reads it, and where the ops leave the gradient. */
interface Parameter {
  readonly name: string;
  readonly values: Float64Array;
  readonly gradient: Ref;
}

/** One block twice: on the device and in float64, with the same numbers. */
class Problem implements Disposable {
  readonly bench = new Bench("auto", 2);
  readonly config: DecoderConfig;
  readonly reference: ReferenceBlock;
  readonly block: BlockWeights;
  readonly trainable = new Map<Linear, TrainableLinear>();
  readonly parameters: Parameter[] = [];
  readonly input: Float32Array;
  readonly inputRef: Ref;
  readonly arena: Arena;
  readonly ops: TrainingOps;
  readonly #random = new Random(7);
  readonly #kind: Kind;

  constructor(family: object, kind: Kind) {
    this.#kind = kind;
    const { bench } = this;
    this.config = parseConfig({ ...SHAPE, ...family }, "the test");
    const { config } = this;
    const norm = (size: number) => {
      const values = this.#random.normals(size, 0.3).map((value) => 1 + value);
      return { device: { weight: bench.f32(values), size }, values: Float64Array.from(values) };
    };
    const frequencies = inverseFrequencies(config.rope, config.headDim);
    const [inputNorm, postAttentionNorm] = [norm(config.hiddenSize), norm(config.hiddenSize)];
    const [qNorm, kNorm] = config.qkNorm ? [norm(config.headDim), norm(config.headDim)] : [null, null];
    const { hiddenSize: hidden, intermediateSize: inter } = config;
    const [queries, keys] = [config.heads * config.headDim, config.kvHeads * config.headDim];
    const linears = [
      this.#linear("q", queries, hidden, config.qkvBias),
      this.#linear("k", keys, hidden, config.qkvBias),
      this.#linear("v", keys, hidden, config.qkvBias),
      this.#linear("o", hidden, queries, config.outputBias),
      this.#linear("gate", inter, hidden, config.mlpBias),
      this.#linear("up", inter, hidden, config.mlpBias),
      this.#linear("down", hidden, inter, config.mlpBias),
    ];
    const [q, k, v, o, gate, up, down] = linears.map(({ device }) => device);
    this.block = {
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
    };
    this.reference = {
      config,
      sequences: SEQUENCES,
      length: LENGTH,
      inverseFrequencies: frequencies,
      inputNorm: inputNorm.values,
      postAttentionNorm: postAttentionNorm.values,
      qNorm: qNorm?.values ?? null,
      kNorm: kNorm?.values ?? null,
      linears: linears.map(({ reference }) => reference),
    };
    this.input = this.#random.normals(ROWS * hidden);
    this.inputRef = bench.f32(this.input);
    const options = { rank: kind.lora ? RANK : 0, dora: kind.dora, inputGradient: true };
    this.arena = new Arena(bench.context.alloc(trainingArenaBytes(config, SEQUENCES, LENGTH, true, options)));
    this.ops = new TrainingOps({
      context: bench.context,
      config,
      arena: this.arena,
      sequences: SEQUENCES,
      length: LENGTH,
      inverseFrequencies: bench.f32(frequencies),
      trainable: this.trainable,
    });
  }

  #linear(name: string, outFeatures: number, inFeatures: number, biased: boolean) {
    const { bench } = this;
    const random = this.#random;
    const { packed, lora, dora } = this.#kind;
    let weight: Weight;
    let w: Float64Array;
    if (packed) {
      const matrix = new AffineMatrix({ bits: 3, group: 32, zero: ZERO_INTEGER, outFeatures, inFeatures }, random);
      matrix.scales.forEach((_, g) => {
        matrix.scales[g] = 0.04 + 0.04 * random.uniform();
      });
      weight = matrix.pack(bench);
      w = matrix.weights();
    } else {
      const values = random.normals(outFeatures * inFeatures, 1 / Math.sqrt(inFeatures));
      const shape = { kind: WEIGHT_DENSE, dtype: F32, bits: 0, group: 0, zero: 0, outFeatures, inFeatures };
      weight = { data: bench.f32(values), ...shape };
      w = Float64Array.from(values);
    }
    const bias = biased ? random.normals(outFeatures) : null;
    const device: Linear = { name, weight, bias: bias && bench.f32(bias), loraTarget: -1 };
    const reference: ReferenceLinear = {
      w,
      outFeatures,
      inFeatures,
      bias: bias && Float64Array.from(bias),
      lora: null,
    };
    const parameter = (part: string, values: Float64Array): Ref => {
      const gradient = bench.room(values.length);
      this.parameters.push({ name: `${name} ${part}`, values, gradient });
      return gradient;
    };
    const dweight = packed ? null : parameter("weight", w);
    const trained: { -readonly [Key in keyof TrainableLinear]: TrainableLinear[Key] } = {
      weight: null,
      dweight,
      lora: null,
    };
    if (lora) {
      const a = random.normals(RANK * inFeatures, 1 / Math.sqrt(inFeatures));
      const b = random.normals(outFeatures * RANK, 0.3);
      reference.lora = { a: Float64Array.from(a), b: Float64Array.from(b), rank: RANK, scale: SCALE, dora: null };
      const [da, db] = [parameter("A", reference.lora.a), parameter("B", reference.lora.b)];
      trained.lora = { a: bench.f32(a), b: bench.f32(b), da, db, rank: RANK, scale: SCALE, dora: null };
      if (dora) {
        const magnitude = random.normals(outFeatures).map((value) => 1 + 0.2 * value);
        reference.lora.dora = { magnitude: Float64Array.from(magnitude), norms: mergedNorms(reference) };
        const dmagnitude = parameter("magnitude", reference.lora.dora.magnitude);
        trained.lora = { ...trained.lora, dora: { magnitude: bench.f32(magnitude), dmagnitude } };
      }
    }
    this.trainable.set(device, trained);
    return { device, reference };
  }

  forward(record: boolean): { x: Tensor; y: Tensor } {
    this.ops.begin(record);
    const x = this.ops.input(this.inputRef, true);
    return { x, y: decoderBlock(this.ops, this.config, this.block, 0, x) };
  }

  read(ref: Ref, count: number): Float32Array {
    return this.bench.read(ref, count);
  }

  [Symbol.dispose](): void {
    this.ops[Symbol.dispose]();
    this.bench[Symbol.dispose]();
  }
}

/** Largest difference over the root mean square of what was expected. */
function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let squares = 0;
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    squares += expected[i] ** 2;
    worst = Math.max(worst, Math.abs(actual[i] - expected[i]));
  }
  return worst / Math.sqrt(squares / expected.length);
}

const STEP = 1e-5;
/** Places of each tensor whose difference is taken. */
const PLACES = 5;

function checkBlock(family: object, kind: Kind): void {
  using problem = new Problem(family, kind);
  const { reference, config, ops } = problem;
  const input = Float64Array.from(problem.input);
  const count = input.length;
  const expected = referenceBlock(reference, 0, input);
  for (const record of [false, true]) {
    const { y } = problem.forward(record);
    const error = relativeError(problem.read(y.ref, count), expected);
    assert(error < 2e-5, `the block's output is off by ${error}, recording: ${record}`);
  }

  const { x, y } = problem.forward(true);
  const dy = new Random(3).normals(count);
  ops.backward(y, { ref: problem.bench.f32(dy), dtype: "f32", shape: y.shape });
  const parameters = [...problem.parameters, { name: "input", values: input, gradient: ops.gradientOf(x).ref }];
  const loss = (): number => referenceBlock(reference, 0, input).reduce((sum, value, i) => sum + value * dy[i], 0);
  const random = new Random(5);
  for (const { name, values, gradient } of parameters) {
    const actual = problem.read(gradient, values.length);
    const size = Math.sqrt(actual.reduce((sum, value) => sum + value * value, 0) / actual.length);
    assert(size > 0, `the gradient of ${name} is zero`);
    for (let place = 0; place < PLACES; place++) {
      const i = random.integer(values.length);
      const value = values[i];
      values[i] = value + STEP;
      const above = loss();
      values[i] = value - STEP;
      const below = loss();
      values[i] = value;
      const difference = (above - below) / (2 * STEP);
      const error = Math.abs(actual[i] - difference) / size;
      assert(
        error < 1e-4,
        `the gradient of ${name}[${i}] is ${actual[i]}, expected ${difference} (typical size ${size})`,
      );
    }
  }
  assertEquals(problem.read(problem.inputRef, count), problem.input, "the input was overwritten");
  const options = { rank: kind.lora ? RANK : 0, dora: kind.dora, inputGradient: true };
  assertEquals(problem.arena.peak, trainingArenaBytes(config, SEQUENCES, LENGTH, true, options));
}

describe("training ops over a decoder block", () => {
  for (const [name, family] of Object.entries(FAMILIES)) {
    it(`${name}: values and gradients of weights, LoRA and input follow a float64 block`, () => {
      checkBlock(family, { packed: false, lora: true, dora: false });
    });
  }

  it("without LoRA, gradients of weights and input follow a float64 block", () => {
    checkBlock(FAMILIES.llama, { packed: false, lora: false, dora: false });
  });

  it("packed weights: gradients of LoRA and input follow a float64 block of the dequantized weights", () => {
    checkBlock(FAMILIES["qwen2 with biases"], { packed: true, lora: true, dora: false });
  });

  it("DoRA: gradients of magnitude, A, B and weights follow a float64 block with constant norms", () => {
    checkBlock(FAMILIES["qwen2 with biases"], { packed: false, lora: true, dora: true });
  });

  it("DoRA over packed weights", () => {
    checkBlock(FAMILIES.llama, { packed: true, lora: true, dora: true });
  });

  it("a second backward pass overwrites the gradients, or adds to them where it is told to", () => {
    using problem = new Problem(FAMILIES.llama, { packed: false, lora: true, dora: true });
    const gradients = (accumulate: boolean): Float32Array[] => {
      const { y } = problem.forward(true);
      const dy = problem.bench.f32(new Random(3).normals(problem.input.length));
      problem.ops.backward(y, { ref: dy, dtype: "f32", shape: y.shape }, accumulate);
      return problem.parameters.map(({ gradient, values }) => problem.read(gradient, values.length));
    };
    const once = gradients(false);
    assertEquals(gradients(false), once);
    for (const [i, twice] of gradients(true).entries()) {
      const error = relativeError(
        twice,
        once[i].map((value) => 2 * value),
      );
      assert(error < 1e-5, `${problem.parameters[i].name} is off by ${error} after two passes`);
    }
  });

  it("forward only takes exactly the arena that is planned", () => {
    for (const family of Object.values(FAMILIES)) {
      using problem = new Problem(family, { packed: false, lora: true, dora: false });
      problem.forward(false);
      const options = { rank: RANK };
      assertEquals(problem.arena.peak, trainingArenaBytes(problem.config, SEQUENCES, LENGTH, false, options));
    }
  });

  it("a tensor that several ops use gets the sum of their gradients, in whatever order they run", () => {
    using problem = new Problem(FAMILIES.llama, { packed: false, lora: false, dora: false });
    const { ops, bench, config } = problem;
    const size = config.hiddenSize;
    const random = new Random(11);
    const weights = [random.normals(size), random.normals(size)];
    ops.begin(true);
    const x = ops.input(problem.inputRef, true);
    const [first, second] = weights.map((values) => ops.rmsNorm(x, { weight: bench.f32(values), size }));
    const y = ops.add(ops.add(x, first), second);
    const dy = random.normals(ROWS * size);
    ops.backward(y, { ref: bench.f32(dy), dtype: "f32", shape: y.shape });
    const actual = problem.read(ops.gradientOf(x).ref, dy.length);
    const input = Float64Array.from(problem.input);
    const loss = (): number => {
      const [a, b] = weights.map((values) => rmsNorm(input, Float64Array.from(values), config.rmsNormEps));
      return input.reduce((sum, value, i) => sum + (value + a[i] + b[i]) * dy[i], 0);
    };
    for (let i = 0; i < input.length; i += 37) {
      const value = input[i];
      input[i] = value + STEP;
      const above = loss();
      input[i] = value - STEP;
      const below = loss();
      input[i] = value;
      const difference = (above - below) / (2 * STEP);
      assert(Math.abs(actual[i] - difference) < 1e-4, `element ${i} is ${actual[i]}, expected ${difference}`);
    }
  });

  it("sees every linear's input, in forward order", () => {
    using problem = new Problem(FAMILIES.llama, { packed: false, lora: false, dora: false });
    const seen: string[] = [];
    const { bench, config, block } = problem;
    using ops = new TrainingOps({
      context: bench.context,
      config,
      arena: problem.arena,
      sequences: SEQUENCES,
      length: LENGTH,
      inverseFrequencies: bench.f32(inverseFrequencies(config.rope, config.headDim)),
      onLinear: (linears, x) => seen.push(`${linears.map(({ name }) => name).join(" ")}: ${x.shape}`),
    });
    ops.begin(false);
    decoderBlock(ops, config, block, 0, ops.input(problem.inputRef));
    assertEquals(seen, ["q k v: 14,64", "o: 14,64", "gate up: 14,64", "down: 14,96"]);
    assertEquals(blockLinears(block).length, 7);
  });

  it("backward is refused without a recording, and with a gradient of another shape", () => {
    using problem = new Problem(FAMILIES.llama, { packed: false, lora: false, dora: false });
    const forward = problem.forward(false);
    assertStringIncludes(String(assertThrows(() => problem.ops.backward(forward.y, forward.y))), "was not recorded");
    const { y } = problem.forward(true);
    const wrong = { ...y, shape: [1, 64] };
    assertStringIncludes(
      String(assertThrows(() => problem.ops.backward(y, wrong))),
      "received [1,64], expected [14,64]",
    );
  });
});
