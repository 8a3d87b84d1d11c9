/**
 * The trainer of whole models against a float64 model: loss, and the gradients of scales and LoRA by central differences; and
 * against one tape over all blocks, which recomputes nothing.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { type Ref, ZERO_FLOAT } from "../../ffi/mod.ts";
import { decoderBlock } from "../../runtime/models/decoder.ts";
import { type TrainableNorm, TrainingOps, trainingArenaBytes } from "../../runtime/ops/training.ts";
import { Arena } from "../../runtime/tensor.ts";
import { arenaOptions, ModelTrainer, nextTokens, trainerBytes } from "../../runtime/training/model_trainer.ts";
import type { Distillation, Objective } from "../../runtime/training/objective.ts";
import { TeacherLogits } from "../../runtime/training/teacher_logits.ts";
import { TokenLoss } from "../../runtime/training/token_loss.ts";
import { Random } from "./harness.ts";
import { FAMILIES, type Kind, LENGTH, SHAPE } from "./model_kinds.ts";
import { logSoftmax, ModelProblem } from "./model_problem.ts";

const STEP = 1e-5;
const LOSS_SCALE = 0.25;
const DISTILLATION: Objective = { kind: "distill", temperature: 1.7, mix: 0.3, topK: 3 };

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
    "LoRA above a frozen one": { lora: "trained", below: true },
    "DoRA above a frozen LoRA": { lora: "dora", below: true, scales: false },
    "two examples in a sequence": { lora: "trained", packed: true, sequences: 2 },
    "norms and LoRA": { lora: "trained", norms: true, scales: false },
    "norms alone": { norms: true, scales: false },
    "distillation alone": { lora: "trained", scales: false, objective: { ...DISTILLATION, mix: 0 } },
    "distillation mixed, at a temperature": { lora: "trained", scales: false, packed: true, objective: DISTILLATION },
    "dropout on the way to LoRA": { lora: "trained", dropout: 0.3, scales: false },
    "dropout on the way to DoRA": { lora: "dora", dropout: 0.3, scales: false },
    "dropout beside a frozen LoRA": { lora: "frozen", dropout: 0.3 },
    "nothing recomputed": { lora: "trained", norms: true, recompute: false },
  };
  const cases = [
    ...Object.entries(kinds).map(([name, kind]) => ["llama, tied", name, kind] as const),
    ...Object.keys(FAMILIES)
      .slice(1)
      .flatMap((family) =>
        ["scales and LoRA", "two examples in a sequence", "norms alone"].map(
          (name) => [family, name, kinds[name]] as const,
        ),
      ),
  ];
  for (const [family, name, kind] of cases) {
    it(`${family}, ${name}: loss and gradients equal those of a float64 model`, () => {
      using problem = new ModelProblem(FAMILIES[family], kind);
      using trainer = problem.trainer();
      const expected = problem.loss();
      if (problem.kind.dropout === 0) assert(Math.abs(trainer.loss(problem).sum / expected - 1) < 1e-5);
      assert(Math.abs(trainer.gradients(problem, LOSS_SCALE, false).sum / expected - 1) < 1e-5);
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
    using loss = new TokenLoss({ context: bench.context, weights, rows });
    const gradient = bench.room(rows * config.hiddenSize);
    loss.run(x.ref, { targets }, { ref: gradient, scale: LOSS_SCALE });
    ops.backward(x, { ref: gradient, dtype: "f32", shape: x.shape });
    assertEquals(problem.gradientsOf(), recomputed);
  });

  it("gives the same bits whether blocks run again or are kept, and takes the memory that is planned", () => {
    const kind: Partial<Kind> = { lora: "dora", norms: true, packed: true, sequences: 2, dropout: 0.2 };
    const results = [true, false].map((recompute) => {
      using problem = new ModelProblem(FAMILIES["qwen3 with q and k norms"], { ...kind, recompute });
      const { config, trainable, bench } = problem;
      const before = bench.context.memory().allocatedBytes;
      using trainer = problem.trainer();
      const loss = trainer.gradients(problem, LOSS_SCALE, false);
      const options = { ...arenaOptions(trainable), dropout: true, recompute };
      const taken = bench.context.memory().allocatedBytes - before;
      const planned = trainerBytes(config, 2, LENGTH, options);
      // Positions and angles of the rows, and the two buffers that packed weights are dequantised into.
      assert(taken >= planned && taken < planned + 128 * 1024, `${taken} bytes, planned ${planned}`);
      return [loss.sum, ...problem.gradientsOf()];
    });
    assertEquals(results[1], results[0]);
  });

  it("draws dropout's masks anew for another batch, the same for the same, and none for the loss alone", () => {
    using problem = new ModelProblem(FAMILIES["llama, tied"], { lora: "trained", dropout: 0.5, scales: false });
    using plain = new ModelProblem(FAMILIES["llama, tied"], { lora: "trained", scales: false });
    using trainer = problem.trainer();
    using without = plain.trainer();
    const { ids, targets } = problem;
    const loss = (draw: number) => trainer.gradients({ ids, targets, draw }, 1, false).sum;
    const [first, second, again] = [loss(1), loss(2), loss(1)];
    assertEquals(again, first);
    assert(first !== second);
    assertEquals(trainer.loss(problem), without.loss(plain));
    assertThrows(() => trainer.gradients({ ids, targets }, 1, false), Error, "the batch has no `draw`");
  });

  it("forgets where rows lie once a batch does not say it", () => {
    using problem = new ModelProblem(FAMILIES["llama, tied"], { lora: "trained", packed: true });
    using trainer = problem.trainer();
    const { ids, targets } = problem;
    const before = trainer.loss({ ids, targets });
    const packed = trainer.loss(problem);
    assert(packed.sum !== before.sum);
    assertEquals(trainer.loss({ ids, targets }), before);
    const positions = problem.positions?.subarray(1) as Int32Array;
    assertThrows(() => trainer.loss({ ids, targets, positions }), Error, "received 6 values of positions, expected 7");
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
      return [trainer.gradients(problem, LOSS_SCALE, false).sum, ...problem.gradientsOf()];
    });
    assertEquals(gradients[1], gradients[0]);
    assertEquals(gradients[2], gradients[0]);
  });
});

describe("TeacherLogits", () => {
  const objective: Distillation = { kind: "distill", temperature: 1.5, mix: 0.25, topK: 5 };

  it("gives the most likely tokens of rows that have a target, as a float64 model does", () => {
    using problem = new ModelProblem(FAMILIES["mistral with a window"], { scales: false, packed: true, sequences: 2 });
    const { bench, weights } = problem;
    problem.storedWeights();
    using teacher = new TeacherLogits({ context: bench.context, weights, sequences: 2, length: LENGTH, objective });
    const { ids, logProbabilities } = teacher.read(problem);
    const expected = problem.logits();
    for (let row = 0; row < problem.ids.length; row++) {
      const found = ids.subarray(row * 5, (row + 1) * 5);
      const logits = expected.get(row);
      if (!logits) {
        assertEquals([...found], [0, 0, 0, 0, 0]);
        continue;
      }
      const logP = logSoftmax(logits, objective.temperature);
      const best = [...logits.keys()].sort((a, b) => logits[b] - logits[a]).slice(0, 5);
      assertEquals([...found], best);
      for (const [i, id] of best.entries()) {
        const error = Math.abs(logProbabilities[row * 5 + i] - logP[id]);
        assert(error < 1e-5, `row ${row}: ${logProbabilities[row * 5 + i]}, expected ${logP[id]}`);
      }
    }
  });

  it("leaves a student that is its teacher nothing to learn but the cross-entropy", () => {
    for (const topK of [5, SHAPE.vocab_size]) {
      using problem = new ModelProblem(FAMILIES["llama, tied"]);
      const { bench, weights, trainable } = problem;
      const shape = {
        context: bench.context,
        weights,
        sequences: 1,
        length: LENGTH,
        objective: { ...objective, topK },
      };
      using teacher = new TeacherLogits(shape);
      const batch = { ...nextTokens(problem.ids), teacher: teacher.read(problem) };
      using student = new ModelTrainer({ ...shape, trainable: new Map() });
      const { sum, nll, kl } = student.loss(batch);
      assert(Math.abs(kl) < 1e-5, `KL ${kl}`);
      assert(Math.abs(sum - objective.mix * nll) < 1e-5 && nll > 1);
      using other = new ModelTrainer({ ...shape, trainable });
      assert(other.loss(batch).kl > 1e-3);
    }
  });

  it("is asked for with settings that make sense, and given to those who distil", () => {
    using problem = new ModelProblem(FAMILIES["llama, tied"]);
    const { bench, weights } = problem;
    const make = (changed: Partial<Distillation>) => () => {
      const shape = { context: bench.context, weights, sequences: 1, length: LENGTH };
      new TeacherLogits({ ...shape, objective: { ...objective, ...changed } });
    };
    assertThrows(make({ temperature: 0 }), Error, "temperature: received 0, expected a number above 0");
    assertThrows(make({ mix: 1.5 }), Error, "mix: received 1.5");
    assertThrows(make({ topK: 38 }), Error, "topK: received 38, expected a whole number from 1 to 37");
    using student = new ModelTrainer({
      ...{ context: bench.context, weights, sequences: 1, length: LENGTH, trainable: new Map(), objective },
    });
    assertThrows(() => student.loss(problem), Error, "received none of the teacher's tokens, expected 7 x 5");
  });
});

describe("TokenLoss", () => {
  it("gives zeros for the gradient where no row has a target", () => {
    using problem = new ModelProblem(FAMILIES["llama, tied"], { norms: true });
    const { bench, weights, config, norms } = problem;
    const size = 3 * config.hiddenSize;
    const finalNorm = norms.get(weights.finalNorm) as TrainableNorm;
    using loss = new TokenLoss({ context: bench.context, weights, rows: 3, finalNorm });
    const gradient = bench.room(size);
    const batch = { targets: Int32Array.of(-1, -1, -1) };
    const sums = loss.run(bench.f32(new Float32Array(size)), batch, { ref: gradient, scale: 1 });
    assertEquals(sums, { sum: 0, nll: 0, kl: 0 });
    const all = [...bench.read(gradient, size), ...bench.read(finalNorm.gradient as Ref, config.hiddenSize)];
    assert(all.every((value) => value === 0));
  });

  it("gives the same loss and gradient in ragged chunks of rows as at once", () => {
    using problem = new ModelProblem(FAMILIES["mistral with a window"]);
    const { bench, weights, config } = problem;
    const rows = 11;
    const hidden = bench.f32(new Random(3).normals(rows * config.hiddenSize));
    const targets = Int32Array.from({ length: rows }, (_, row) => (row % 4 === 3 ? -1 : (row * 5) % config.vocabSize));
    const [whole, chunks] = [rows, 4].map((chunk) => {
      using loss = new TokenLoss({ context: bench.context, weights, rows, values: chunk * config.vocabSize });
      const gradient = bench.room(rows * config.hiddenSize);
      const sum = loss.run(hidden, { targets }, { ref: gradient, scale: 2 });
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
