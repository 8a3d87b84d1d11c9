/** Training with products in bfloat16: linears of every stored form to the bit, and whole models beside float32. */
import { assert } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { BF16, F16, F32, type Weight, ZERO_FLOAT, ZERO_INTEGER } from "../../ffi/mod.ts";
import { parseConfig } from "../../runtime/models/config.ts";
import type { Linear } from "../../runtime/models/weights.ts";
import { type Compute, TrainingOps } from "../../runtime/ops/training.ts";
import { Arena } from "../../runtime/tensor.ts";
import { bf16Sum, toBf16 } from "./bf16_reference.ts";
import { assertSameBits, type Bench, onEveryIsa, Random } from "./harness.ts";
import { AffineMatrix, DenseMatrix } from "./linear_problem.ts";
import { LutMatrix } from "./lut_problem.ts";
import { FAMILIES, type Kind, SHAPE } from "./model_kinds.ts";
import { ModelProblem } from "./model_problem.ts";

const CONFIG = parseConfig({ ...SHAPE, ...FAMILIES["llama, tied"] }, "config.json");
const ROWS = 5;
const SHAPES = { outFeatures: 41, inFeatures: 64, group: 32 };

/** y = x W^T and dx = dy W through the ops, one behind the other. */
function linearInBf16(bench: Bench, weight: Weight, x: Float32Array, dy: Float32Array): Float32Array {
  const { outFeatures, inFeatures } = weight;
  const linear: Linear = { name: "linear", weight, bias: null, loraTarget: -1 };
  using ops = new TrainingOps({
    context: bench.context,
    config: CONFIG,
    arena: new Arena(bench.context.alloc(1 << 16)),
    sequences: 1,
    length: ROWS,
    inverseFrequencies: bench.f32(new Float32Array(CONFIG.headDim / 2)),
    compute: "bf16",
  });
  ops.begin(true);
  const input = ops.input(bench.f32(x), true, inFeatures);
  const [output] = ops.linear(input, [linear]);
  const y = bench.read(output.ref, ROWS * outFeatures);
  ops.backward(output, { ref: bench.f32(dy), dtype: "f32", shape: [ROWS, outFeatures] });
  return Float32Array.of(...y, ...bench.read(ops.gradientOf(input).ref, ROWS * inFeatures));
}

/** What they must be to the bit. */
function expected(weights: ArrayLike<number>, x: Float32Array, dy: Float32Array): Float32Array {
  const { outFeatures, inFeatures } = SHAPES;
  const w = toBf16(Float32Array.from(weights));
  const [left, right] = [toBf16(x), toBf16(dy)];
  const y = Float32Array.from({ length: ROWS * outFeatures }, (_, i) => {
    const [row, out] = [Math.floor(i / outFeatures), i % outFeatures];
    return bf16Sum(
      inFeatures,
      (p) => left[row * inFeatures + p],
      (p) => w[out * inFeatures + p],
    );
  });
  const dx = Float32Array.from({ length: ROWS * inFeatures }, (_, i) => {
    const [row, column] = [Math.floor(i / inFeatures), i % inFeatures];
    return bf16Sum(
      outFeatures,
      (p) => right[row * outFeatures + p],
      (p) => w[p * inFeatures + column],
    );
  });
  return Float32Array.of(...y, ...dx);
}

describe("a linear in bfloat16", () => {
  const random = new Random(23);
  const x = random.normals(ROWS * SHAPES.inFeatures);
  const dy = random.normals(ROWS * SHAPES.outFeatures);
  const check = (name: string, weights: ArrayLike<number>, put: (bench: Bench) => Weight): void =>
    it(`multiplies as the stored weight says, forward and backward: ${name}`, () => {
      const actual = onEveryIsa((bench) => linearInBf16(bench, put(bench), x, dy));
      assertSameBits(actual, expected(weights, x, dy), name);
    });
  for (const bits of [2, 3, 4, 8]) {
    for (const [name, zero] of Object.entries({ "integer zeros": ZERO_INTEGER, "float zeros": ZERO_FLOAT })) {
      const matrix = new AffineMatrix({ ...SHAPES, bits, zero }, random);
      check(`${bits} bits, ${name}`, matrix.weights(), (bench) => matrix.pack(bench));
    }
  }
  for (const bits of [2, 3, 4] as const) {
    const matrix = new LutMatrix({ ...SHAPES, bits }, random);
    check(`a table of ${bits} bits`, matrix.weights(), (bench) => matrix.pack(bench));
  }
  for (const [name, dtype] of Object.entries({ float32: F32, float16: F16, bfloat16: BF16 })) {
    const matrix = new DenseMatrix(dtype, SHAPES.outFeatures, SHAPES.inFeatures, random);
    check(`dense ${name}`, matrix.values, (bench) => matrix.put(bench));
  }
});

/** Losses of a few steps of AdamW on the LoRA of a small model. */
function losses(compute: Compute, steps: number): number[] {
  using problem = new ModelProblem(FAMILIES["qwen2 with biases"], { lora: "trained", scales: false, compute });
  using trainer = problem.trainer();
  const { context } = problem.bench;
  const trained = [...problem.trainable].flatMap(([{ weight }, { lora }]) => {
    if (!lora?.da || !lora.db) throw new Error("the problem trains LoRA");
    return [
      { parameter: lora.a, grad: lora.da, count: lora.rank * weight.inFeatures },
      { parameter: lora.b, grad: lora.db, count: lora.rank * weight.outFeatures },
    ];
  });
  const moments = trained.map(({ count }) => ({
    m: problem.bench.f32(new Float32Array(count)),
    v: problem.bench.f32(new Float32Array(count)),
  }));
  const rates = { lr: 0.003, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0, gradScale: 1 };
  return Array.from({ length: steps }, (_, step) => {
    const { sum } = trainer.gradients(problem, 1, false);
    for (const [i, place] of trained.entries()) context.adamw({ ...place, ...moments[i], ...rates, step: step + 1 });
    return sum;
  });
}

describe("training in bfloat16", () => {
  /** Rounding moves a factor by 2^-9 at most; these models make 1.0 % to 3.7 % of it on the way through all blocks and back. */
  for (const [name, family] of Object.entries(FAMILIES)) {
    it(`gives a gradient within 5 % of float32's: ${name}`, () => {
      const [exact, rounded] = (["f32", "bf16"] as const).map((compute) => {
        using problem = new ModelProblem(family, { lora: "trained", norms: true, compute });
        using trainer = problem.trainer();
        trainer.gradients(problem, 1, false);
        return problem.gradientsOf().flatMap((gradient) => [...gradient]);
      });
      const off = Math.hypot(...exact.map((value, i) => rounded[i] - value)) / Math.hypot(...exact);
      assert(off > 0.001 && off < 0.05, `the gradient is off by ${off} of its length`);
    });
  }

  it("follows the losses of float32 within 2 % of the first one, over steps that take it to a hundredth", () => {
    const [exact, rounded] = [losses("f32", 10), losses("bf16", 10)];
    assert(exact[9] < exact[0] / 100, `losses fell from ${exact[0]} to ${exact[9]} only`);
    const worst = Math.max(...exact.map((loss, step) => Math.abs(rounded[step] - loss))) / exact[0];
    assert(worst > 0 && worst < 0.02, `losses differ by ${worst} of the first`);
  });

  it("gives the same bits on any number of threads", () => {
    const kind: Partial<Kind> = { lora: "dora", scales: true, compute: "bf16" };
    const [one, three] = [1, 3].map((threads) => {
      using problem = new ModelProblem(FAMILIES["llama, tied"], kind, threads);
      using trainer = problem.trainer();
      trainer.gradients(problem, 1, false);
      return problem.gradientsOf();
    });
    for (const [i, gradient] of one.entries()) assertSameBits(three[i], gradient, `gradient ${i}`);
  });
});
