/**
 * The trainer of whole models against a float64 model: loss, and the gradients of scales and LoRA by central differences; and
 * against one tape over all blocks, which recomputes nothing.
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ZERO_FLOAT } from "../../ffi/mod.ts";
import { decoderBlock } from "../../runtime/models/decoder.ts";
import { TrainingOps, trainingArenaBytes } from "../../runtime/ops/training.ts";
import { Arena } from "../../runtime/tensor.ts";
import { arenaOptions, nextTokens } from "../../runtime/training/model_trainer.ts";
import { TokenLoss } from "../../runtime/training/token_loss.ts";
import { Random } from "./harness.ts";
import { FAMILIES, type Kind, LENGTH, ModelProblem, SHAPE } from "./model_problem.ts";

const STEP = 1e-5;
const LOSS_SCALE = 0.25;

/** A few places of every parameter against central differences; errors are relative to the gradient's root mean square. */
function checkGradients(problem: ModelProblem): void {
  const random = new Random(5);
  for (const { name, values, gradient, changed } of problem.parameters) {
    const actual = problem.bench.read(gradient, values.length);
    const size = Math.sqrt(actual.reduce((sum, value) => sum + value * value, 0) / actual.length);
    assert(size > 0, `the gradient of ${name} is zero`);
    for (let place = 0; place < 3; place++) {
      const i = random.integer(values.length);
      const value = values[i];
      const [above, below] = [STEP, -STEP].map((step) => {
        values[i] = value + step;
        changed();
        return problem.loss();
      });
      values[i] = value;
      changed();
      const expected = (LOSS_SCALE * (above - below)) / (2 * STEP);
      const error = Math.abs(actual[i] - expected) / size;
      assert(error < 1e-3, `${name}[${i}] is ${actual[i]}, expected ${expected}: off by ${error}`);
    }
  }
}

describe("ModelTrainer", () => {
  const kinds: Record<string, Partial<Kind>> = {
    scales: {},
    "scales of float zeros": { zero: ZERO_FLOAT },
    "scales below a frozen LoRA, two sequences": { lora: "frozen", sequences: 2 },
    "scales and LoRA": { lora: "trained" },
    "scales and DoRA": { lora: "dora" },
    "the last block only": { lora: "trained", frozenBlocks: 2 },
  };
  const cases = [
    ...Object.entries(kinds).map(([name, kind]) => ["llama, tied", name, kind] as const),
    ...Object.keys(FAMILIES)
      .slice(1)
      .map((family) => [family, "scales and LoRA", kinds["scales and LoRA"]] as const),
  ];
  for (const [family, name, kind] of cases) {
    it(`${family}, ${name}: loss and gradients equal those of a float64 model`, () => {
      using problem = new ModelProblem(FAMILIES[family], kind);
      using trainer = problem.trainer();
      const expected = problem.loss();
      assert(Math.abs(trainer.loss(problem) / expected - 1) < 1e-5);
      assert(Math.abs(trainer.gradients(problem, LOSS_SCALE, false) / expected - 1) < 1e-5);
      checkGradients(problem);
    });
  }

  it("gives the gradients of one tape over all blocks, which recomputes nothing", () => {
    using problem = new ModelProblem(FAMILIES["llama, tied"], { lora: "trained" });
    const { bench, config, weights, trainable, ids, targets } = problem;
    using trainer = problem.trainer();
    trainer.gradients(problem, LOSS_SCALE, false);
    const recomputed = problem.gradientsOf();

    const rows = ids.length;
    const bytes = config.layers * trainingArenaBytes(config, 1, LENGTH, true, arenaOptions(trainable));
    using ops = new TrainingOps({
      context: bench.context,
      config,
      arena: new Arena(bench.context.alloc(2 * bytes)),
      sequences: 1,
      length: LENGTH,
      inverseFrequencies: weights.inverseFrequencies,
      trainable,
      ids: bench.put(ids),
    });
    ops.begin(true);
    let x = ops.embedding(weights.embedding);
    for (const [layer, block] of weights.blocks.entries()) x = decoderBlock(ops, config, block, layer, x);
    using loss = new TokenLoss(bench.context, weights, rows);
    const gradient = bench.room(rows * config.hiddenSize);
    loss.run(x.ref, targets, { ref: gradient, scale: LOSS_SCALE });
    ops.backward(x, { ref: gradient, dtype: "f32", shape: x.shape });
    assertEquals(problem.gradientsOf(), recomputed);
  });

  it("adds gradients of several batches up where asked to", () => {
    using problem = new ModelProblem(FAMILIES["llama, tied"], { lora: "trained" });
    using trainer = problem.trainer();
    const other = nextTokens(problem.ids.map((id) => (id * 7 + 3) % SHAPE.vocab_size));
    const run = (batches: readonly (ModelProblem | typeof other)[]): Float32Array[] => {
      for (const [i, batch] of batches.entries()) trainer.gradients(batch, 1, i > 0);
      return problem.gradientsOf();
    };
    const [first, second, both] = [run([problem]), run([other]), run([problem, other])];
    for (const [i, sum] of both.entries()) {
      const size = Math.max(...sum.map(Math.abs));
      const apart = sum.map((value, j) => Math.abs(value - first[i][j] - second[i][j]));
      assert(Math.max(...apart) < 1e-5 * size, `${problem.parameters[i].name}: ${Math.max(...apart)} of ${size}`);
    }
  });

  it("gives the same gradients with any number of threads", () => {
    const gradients = [1, 2, 3].map((threads) => {
      using problem = new ModelProblem(FAMILIES["llama, tied"], { lora: "trained" }, threads);
      using trainer = problem.trainer();
      return [trainer.gradients(problem, LOSS_SCALE, false), ...problem.gradientsOf()];
    });
    assertEquals(gradients[1], gradients[0]);
    assertEquals(gradients[2], gradients[0]);
  });
});

describe("TokenLoss", () => {
  it("gives the same loss and gradient in ragged chunks of rows as at once", () => {
    using problem = new ModelProblem(FAMILIES["mistral with a window"]);
    const { bench, weights, config } = problem;
    const rows = 11;
    const hidden = bench.f32(new Random(3).normals(rows * config.hiddenSize));
    const targets = Int32Array.from({ length: rows }, (_, row) => (row % 4 === 3 ? -1 : (row * 5) % config.vocabSize));
    const [whole, chunks] = [rows, 4].map((chunk) => {
      using loss = new TokenLoss(bench.context, weights, rows, chunk * config.vocabSize);
      const gradient = bench.room(rows * config.hiddenSize);
      const sum = loss.run(hidden, targets, { ref: gradient, scale: 2 });
      return { sum, gradient: bench.read(gradient, rows * config.hiddenSize) };
    });
    assertEquals(chunks, whole);
    const unused = whole.gradient.subarray(3 * config.hiddenSize, 4 * config.hiddenSize);
    assert(
      unused.every((value) => value === 0),
      "a row without a target has no gradient",
    );
  });
});
