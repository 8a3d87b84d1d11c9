import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { scheduleFactor } from "./schedule.ts";
import { DEFAULTS, finetuneSettings, loraSettings, parseTargets, TARGETS } from "./settings.ts";

describe("finetuneSettings", () => {
  it("takes what was given, then the recipe, then the defaults", () => {
    assertEquals(finetuneSettings(null, {}), DEFAULTS);
    const { epochs, length, warmup, schedule } = finetuneSettings("arithmetic", { epochs: 7, length: undefined });
    assertEquals([epochs, length, warmup, schedule], [7, 512, 0.1, "linear"]);
  });

  it("has the paper's recipes", () => {
    const of = (name: "wikitext" | "gsm8k" | "arithmetic" | "commonsense") => {
      const { learningRate, epochs, batchSize, length, schedule, warmup, weightDecay } = finetuneSettings(name, {});
      return [learningRate, epochs, batchSize, length, schedule, warmup, weightDecay];
    };
    assertEquals(of("wikitext"), [3e-4, 3, 64, 1024, "cosine", 0.03, 0.1]);
    assertEquals(of("gsm8k"), [3e-4, 6, 8, 512, "cosine", 0.03, 0.1]);
    assertEquals(of("arithmetic"), [3e-4, 3, 16, 512, "linear", 0.1, 0]);
    assertEquals(of("commonsense"), of("arithmetic"));
  });

  const refusals = [
    [{ epochs: 0 }, "Cannot use --epochs: received 0, expected a whole number, at least 1"],
    [{ epochs: 1.5 }, "Cannot use --epochs: received 1.5, expected a whole number, at least 1"],
    [{ maxSteps: 0 }, "Cannot use --max-steps: received 0, expected a whole number, at least 1"],
    [{ batchSize: 0 }, "Cannot use --batch-size: received 0, expected a whole number, at least 1"],
    [{ microBatch: -1 }, "Cannot use --micro-batch: received -1, expected a whole number, at least 1"],
    [{ length: 1 }, "Cannot use --seq-len: received 1, expected a whole number, at least 2"],
    [{ learningRate: -1 }, "Cannot use --lr: received -1, expected at least 0"],
    [{ learningRate: Number.NaN }, "Cannot use --lr: received NaN, expected at least 0"],
    [{ learningRate: Number.POSITIVE_INFINITY }, "Cannot use --lr: received Infinity, expected at least 0"],
    [{ schedule: "flat" as never }, "Cannot use --lr-schedule: received flat, expected constant, linear, cosine"],
    [{ warmup: -0.1 }, "Cannot use --warmup: received -0.1, expected at least 0"],
    [{ warmup: 2.5 }, "Cannot use --warmup: received 2.5, expected a share below 1 or whole steps"],
    [{ weightDecay: -1 }, "Cannot use --weight-decay: received -1, expected at least 0"],
    [{ maxNorm: -1 }, "Cannot use --max-norm: received -1, expected at least 0"],
    [{ dropout: 1 }, "Cannot use --dropout: received 1, expected 0 to 0.99"],
    [{ optimizerBits: 16 as never }, "Cannot use --optimizer-bits: received 16, expected 32, 8"],
    [{ compute: "f16" as never }, "Cannot use --compute: received f16, expected f32, bf16"],
    [{ objective: "distill", temperature: 0 }, "Cannot use --temperature: received 0, expected 0.01 to 100"],
    [{ objective: "distill", mix: 1.1 }, "Cannot use --mix: received 1.1, expected 0 to 1"],
    [{ objective: "distill", topK: 0 }, "Cannot use --top-k: received 0, expected a whole number, at least 1"],
    [{ temperature: 2 }, "Cannot use --temperature without --objective distill"],
    [{ mix: 0.5 }, "Cannot use --mix without --objective distill"],
    [{ topK: 8 }, "Cannot use --top-k without --objective distill"],
    [{ scaleLearningRate: 1 }, "Cannot use --scale-lr without --train-scales"],
    [{ trainScales: true, scaleLearningRate: -1 }, "Cannot use --scale-lr: received -1, expected at least 0"],
    [{ weightLearningRate: 1 }, "Cannot use --weight-lr without --train-weights"],
    [{ trainWeights: true, weightLearningRate: -1 }, "Cannot use --weight-lr: received -1, expected at least 0"],
  ] as const;
  for (const [given, message] of refusals) {
    it(`refuses ${JSON.stringify(given)} by its flag`, () => {
      assertEquals(assertThrows(() => finetuneSettings(null, given), RangeError).message, message);
    });
  }
});

describe("finetuneSettings of weights that train", () => {
  it("train their scales too, at the scales' own rate", () => {
    const { trainScales, scaleLearningRate } = finetuneSettings(null, { trainWeights: true, scaleLearningRate: 5e-4 });
    assertEquals([trainScales, scaleLearningRate], [true, 5e-4]);
  });
});

describe("loraSettings", () => {
  it("refuses what LoRA cannot have", () => {
    const refusal = (given: object): string => assertThrows(() => loraSettings(given), RangeError).message;
    assertEquals(refusal({ rank: 0 }), "Cannot use --rank: received 0, expected a whole number, at least 1");
    assertEquals(loraSettings({ rank: 0 }, true).rank, 0);
    assertEquals(refusal({ alpha: 0 }), "Cannot use --alpha: received 0, expected more than 0");
    assertEquals(
      refusal({ alpha: Number.POSITIVE_INFINITY }),
      "Cannot use --alpha: received Infinity, expected more than 0",
    );
  });
});

describe("parseTargets", () => {
  it("reads names and groups of names, in the block's order", () => {
    assertEquals(parseTargets("v_proj, q_proj"), ["q_proj", "v_proj"]);
    assertEquals(parseTargets("mlp,o_proj"), ["o_proj", "gate_proj", "up_proj", "down_proj"]);
    assertEquals(parseTargets("all"), TARGETS);
  });

  it("refuses an unknown name", () => {
    assertEquals(
      assertThrows(() => parseTargets("q_proj,qkv"), RangeError).message,
      `Cannot use --targets: received "qkv", expected some of all, attention, mlp, ${TARGETS.join(", ")}`,
    );
  });
});

describe("scheduleFactor", () => {
  const factors = (name: "constant" | "linear" | "cosine", warmupSteps: number, steps: number): number[] =>
    Array.from({ length: steps }, (_, step) => Number(scheduleFactor({ name, warmupSteps, steps }, step).toFixed(4)));

  it("rises from 0 over the warm-up, then stays or falls", () => {
    assertEquals(factors("constant", 2, 4), [0, 0.5, 1, 1]);
    assertEquals(factors("linear", 2, 6), [0, 0.5, 1, 0.75, 0.5, 0.25]);
    assertEquals(factors("cosine", 0, 4), [1, 0.8536, 0.5, 0.1464]);
  });

  it("never reaches its end where the warm-up is longer than the run", () => {
    assertEquals(factors("cosine", 10, 3), [0, 0.1, 0.2]);
  });
});
