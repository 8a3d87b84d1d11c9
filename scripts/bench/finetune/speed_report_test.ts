import { assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { compareSides, renderSpeeds, type SpeedReport } from "./speed_report.ts";
import type { SpeedAnswer } from "./speed_task.ts";

const answer = (about: string, seconds: readonly number[], losses = [2, 1], peakBytes = 1e9): SpeedAnswer => {
  return { about, seconds, losses, peakBytes };
};

const report = (rounds: SpeedReport["rounds"]): SpeedReport => ({
  ...{ date: "", machine: { cpu: "a CPU", cores: 2, loadAverage: 0.1 }, model: "a model", threads: 2, length: 100 },
  ...{ steps: 3, rounds },
});

describe("comparison of training steps", () => {
  it("takes medians of steps and rounds, and ratios within a round", () => {
    const [own, torch] = compareSides(
      report([
        [answer("apiq", [1, 2, 9]), answer("torch", [4, 4, 4])],
        [answer("apiq", [4, 4, 4]), answer("torch", [2, 2, 2])],
        [answer("apiq", [1, 1, 1]), answer("torch", [1, 1, 1])],
      ]),
    );
    assertAlmostEquals(own!.tokensPerSecond, 50);
    assertAlmostEquals(own!.ratio, 1);
    assertEquals(torch!.ratio, 1);
  });

  it("tells the largest difference of losses, step by step", () => {
    const [own] = compareSides(report([[answer("apiq", [1], [2.2, 1]), answer("torch", [1], [2, 1.01])]]));
    assertAlmostEquals(own!.lossDifference, 0.1, 1e-9);
  });

  it("names all sides, their memory and the machine", () => {
    const text = renderSpeeds(report([[answer("apiq", [1], [1], 2e8), answer("torch", [2], [1], 1e9)]]));
    for (const part of [
      "a CPU",
      "apiq: 100.0 tokens/s, 200 MB",
      "2.00 times as fast, 20 % of",
      "torch: 50.0 tokens/s",
    ]) {
      assertStringIncludes(text, part);
    }
  });
});
