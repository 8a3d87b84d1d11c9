import { assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Output } from "./output.ts";
import { QuantizeProgress } from "./quantize_progress.ts";

/** A run of four blocks with two epochs of two steps each, ten seconds a block; what it wrote on standard error. */
function watch(isTTY: boolean, finished: number): string[] {
  const lines: string[] = [];
  const sink = { isTTY, columns: 200, write: (text: string) => lines.push(text) };
  let now = 0;
  using progress = new QuantizeProgress(new Output(sink, sink), "out.partial", () => now);
  if (finished > 0) progress.onResume(finished, 4);
  for (let layer = 0; layer < finished; layer++) progress.onPhase("targets", layer, 4);
  for (let layer = finished; layer < 4; layer++) {
    progress.onPhase("targets", layer, 4);
    for (const part of ["q_proj", "o_proj"]) {
      for (const epoch of [1, 2]) {
        now += 2500;
        progress.onStep({ layer, layers: 4, part, epoch, epochs: 2, step: 2, steps: 2, loss: 1 / epoch });
      }
    }
    const losses = [{ part: null, losses: [1, 0.5] }];
    const linears = { q: { storage: { family: "dense" }, lora: null, error: 0.25 } } as const;
    progress.onBlock({ layer, seconds: 10, peakBytes: 1, losses, outputError: 0.125, linears }, 4);
  }
  return lines;
}

describe("QuantizeProgress", () => {
  it("prints a line for every block when piped, and nothing else", () => {
    assertEquals(
      watch(false, 0),
      [1, 2, 3, 4].map((n) => `block ${n}/4: loss 1.00 -> 0.500, weights off by 25.0 %, output off by 12.5 %, 10 s\n`),
    );
  });

  it("shows block, part, epoch and loss, and does not go back within a block", () => {
    const shares = watch(true, 0)
      .filter((line) => line.includes("░") || line.includes("█"))
      .map((line) => Number(/(\d+) %/.exec(line)?.[1]));
    assertEquals(
      [...shares],
      [...shares].sort((a, b) => a - b),
    );
    const text = watch(true, 0).join("");
    assertStringIncludes(text, "block 1/4, q_proj, epoch 2/2, loss 0.500 ");
    assertStringIncludes(text, "block 3/4, full-precision outputs ");
  });

  it("shows epoch and loss of the whole model, and tells afterwards how they went", () => {
    const lines: string[] = [];
    const sink = { isTTY: true, columns: 200, write: (text: string) => lines.push(text) };
    using progress = new QuantizeProgress(new Output(sink, sink), "out.partial", () => lines.length * 1000);
    for (const epoch of [1, 2]) {
      for (const step of [1, 2])
        progress.onModelStep({ part: null, epoch, epochs: 2, step, steps: 2, loss: 6 / epoch });
    }
    progress.onModel({ seconds: 70, losses: [6, 3] });
    const text = lines.join("");
    assertStringIncludes(text, "whole model, epoch 1/2, loss 6.00 ██████░░░░░░░░░░░░░░░░░░ 25 %");
    assertStringIncludes(text, "whole model: loss 6.000 -> 3.000, 1 min 10 s\n");
  });

  it("says what it continues, and counts only what is left", () => {
    const text = watch(true, 2).join("");
    assertStringIncludes(text, "Continuing out.partial: 2 of 4 blocks are finished.\n");
    assertStringIncludes(text, "replaying finished blocks");
    assertStringIncludes(text, "block 3/4, full-precision outputs ░░░░░░░░░░░░░░░░░░░░░░░░ 0 %");
  });
});
