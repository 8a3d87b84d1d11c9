import { assertAlmostEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { type BlockReport, compareBlocks, median, renderBlocks } from "./report.ts";
import { secondsPerBlock } from "./task.ts";

const answer = (secondsPerStep: number, loss = 2) => ({
  secondsPerStep,
  secondsPerForward: 0.5,
  loss,
  about: "a side",
});

const report = (rounds: BlockReport["rounds"]): BlockReport => ({
  ...{ date: "", machine: { cpu: "a CPU", cores: 2, loadAverage: 0.1 }, model: "a model", threads: 2, length: 512 },
  ...{ rank: 64, bits: 2, augLoss: true, budget: { samples: 4, epochs: 10 }, steps: 8, rounds },
});

describe("comparison of a block's training", () => {
  it("counts the passes around the steps, one fewer without the augmented loss", () => {
    assertAlmostEquals(secondsPerBlock(answer(1), { samples: 4, epochs: 10 }, true), 4 * (10 + 1.5));
    assertAlmostEquals(secondsPerBlock(answer(1), { samples: 4, epochs: 10 }, false), 4 * (10 + 1));
  });

  it("takes the median of the rounds' ratios, and the largest difference of losses", () => {
    const rounds = [
      { apiq: answer(1), torch: answer(1) },
      { apiq: answer(1, 1.9), torch: answer(2) },
      { apiq: answer(2), torch: answer(1) },
    ];
    const { ratio, lossDifference, apiq } = compareBlocks(report(rounds));
    assertAlmostEquals(ratio, 1);
    assertAlmostEquals(lossDifference, 0.05);
    assertAlmostEquals(apiq, 46);
  });

  it("names both sides, the machine and the ratio", () => {
    const text = renderBlocks(report([{ apiq: answer(1), torch: answer(2) }]));
    for (const part of ["a CPU", "2 threads each", "46.0 s a block", "86.0 s a block", "1.87 times as long"]) {
      assertStringIncludes(text, part);
    }
  });

  it("has no median of nothing", () => {
    assertThrows(() => median([]), Error, "nothing");
  });
});
