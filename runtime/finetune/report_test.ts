import { assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { LogRecord } from "./records.ts";
import { reportPage } from "./report.ts";
import { curveChart } from "./report_chart.ts";

const HEAD = {
  model: "<b>model</b>",
  out: "out",
  data: { files: [{ file: "d.txt", amount: null }] },
  validation: { file: null },
  teacher: null,
};

describe("reportPage", () => {
  it("shows curves, validations and settings, and escapes what comes from outside", () => {
    const step = { type: "step", epoch: 1, norm: 1, learningRate: 1e-3, tokens: 9, tokensPerSecond: 5 } as const;
    const records: LogRecord[] = [
      { type: "eval", step: 0, loss: 3, perplexity: 20.1, tokens: 4, seconds: 1 },
      { ...step, step: 1, loss: 3, seconds: 1, peakBytes: 1 },
      { ...step, step: 2, loss: 2, seconds: 1, peakBytes: 1 },
    ];
    const page = reportPage(
      HEAD,
      { objective: "sft", learningRate: 1e-3, targets: ["q_proj"], teacher: null },
      records,
      4,
    );
    for (const text of ["finetuning, 4 steps", "2 of 4 steps made", "&#60;b&#62;model", "--lr", "q_proj", "20.10"]) {
      assertStringIncludes(page, text);
    }
    assertEquals(page.includes("<b>"), false);
    assertEquals(page.includes("--teacher"), false);
  });

  it("has no charts before the first step", () => {
    assertEquals(reportPage(HEAD, { objective: "sft" }, [], 4).includes("<svg"), false);
  });
});

describe("curveChart", () => {
  it("draws long runs as means", () => {
    const points = Array.from({ length: 10_000 }, (_, i) => [i, i % 2] as const);
    const chart = curveChart({ name: "loss", points, dots: [] }, 10_000);
    assertEquals(chart.length < 10_000, true);
    assertStringIncludes(chart, "10000 steps");
  });
});
