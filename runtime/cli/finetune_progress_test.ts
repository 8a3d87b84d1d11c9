import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { StepRecord } from "../finetune/records.ts";
import { FinetuneProgress } from "./finetune_progress.ts";
import { Output } from "./output.ts";

const STEP: StepRecord = {
  type: "step",
  step: 1,
  epoch: 1,
  loss: 2.34567,
  norm: 1,
  learningRate: 3e-4,
  tokens: 100,
  tokensPerSecond: 123.4,
  seconds: 1,
  peakBytes: 5e8,
};

describe("FinetuneProgress", () => {
  it("prints a line for validations, for a step every half minute and for the last, with the time left", () => {
    const lines: string[] = [];
    const sink = { write: (text: string) => void lines.push(text) };
    let now = 0;
    using progress = new FinetuneProgress(new Output(sink, sink), "out.partial", () => now);
    progress.onResume(2, 10);
    progress.onBegin(10, 2);
    now = 20_000;
    progress.onStep({ ...STEP, step: 3 }, 10);
    now = 40_000;
    progress.onStep({ ...STEP, step: 4 }, 10);
    const evaluated = { type: "eval", step: 4, loss: 2, perplexity: 7.389, tokens: 5, seconds: 3 } as const;
    progress.onEval(evaluated, true);
    now = 41_000;
    progress.onStep({ ...STEP, step: 10, epoch: 2 }, 10);
    assertEquals(lines, [
      "Continuing out.partial: 2 of 10 steps are made.\n",
      "step 4/10, epoch 1/2: loss 2.346, lr 0.000300, 123 tokens/s, 500 MB, 2 min 0 s left\n",
      "validation after step 4: loss 2.000, perplexity 7.389, the best so far, 3 s\n",
      "step 10/10, epoch 2/2: loss 2.346, lr 0.000300, 123 tokens/s, 500 MB\n",
    ]);
  });
});
