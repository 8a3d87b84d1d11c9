import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { linesOf, plainFourBit, renderTable } from "./table.mjs";

const machine = { cpu: "a CPU", threads: 2, isa: "avx2" };
const evaluation = { window: 1024, windows: 40, tokens: 40920, seconds: 9 };

const result = (label, bits, ppl, rest = {}) => ({
  ...{
    name: label,
    variant: `${label}-${bits}-${rest.group ?? 64}`,
    label,
    method: label,
    bits,
    group: 64,
    rank: 0,
    seed: 0,
  },
  ...{ settings: { samples: 64, length: 512, epochs: 8, flags: [] }, ppl, evaluation, seconds: 100, peakBytes: 5e8 },
  ...{ bitsPerWeight: bits + 0.28, machine },
  ...rest,
});

const full = result("full precision", null, 21.382, {
  ...{ group: null, seconds: null, peakBytes: null, bitsPerWeight: 16, settings: { flags: [] } },
});
const results = [
  result("gptq", 4, 24.5),
  result("gptq", 4, 23.25, { group: 32, bitsPerWeight: 4.63 }),
  result("rtn", 2, 568377.4, { settings: { flags: [] }, seconds: 3 }),
  result("apiq-bw", 2, 93, { rank: 64, bitsPerWeight: 4.6, seed: 0, seconds: 300 }),
  result("apiq-bw", 2, 90, { rank: 64, bitsPerWeight: 4.6, seed: 1, seconds: 100, peakBytes: 6e8 }),
  result("apiq-bw", 2, 91, { rank: 64, bitsPerWeight: 4.6, seed: 2, seconds: 200 }),
  full,
];

describe("quality table", () => {
  it("takes seeds together: median perplexity and time, largest memory", () => {
    const line = linesOf(results).find(({ label }) => label === "apiq-bw");
    assertEquals([line.ppl, line.seconds, line.peakBytes], [91, 200, 6e8]);
    assertEquals(line.ppls, [93, 90, 91]);
  });

  it("orders by bits, then by perplexity", () => {
    assertEquals(
      linesOf(results).map(({ label, bits, group }) => [label, bits, group]),
      [
        ["full precision", null, null],
        ["apiq-bw", 2, 64],
        ["rtn", 2, 64],
        ["gptq", 4, 32],
        ["gptq", 4, 64],
      ],
    );
  });

  it("finds the best plain 4-bit model that is no larger", () => {
    const lines = linesOf(results);
    const of = (label, bits) =>
      plainFourBit(
        lines.find((line) => line.label === label && line.bits === bits),
        lines,
      );
    assertEquals(of("apiq-bw", 2).ppl, 24.5);
    assertEquals(of("rtn", 2), undefined);
    const withLora = linesOf([...results, result("loftq", 4, 22, { rank: 64, bitsPerWeight: 4 })]);
    assertEquals(plainFourBit(withLora[1], withLora).ppl, 24.5);
  });

  it("renders lines of equal width with budget and machine above", () => {
    const text = renderTable(results);
    assertStringIncludes(text, "64 samples of 512 tokens");
    assertStringIncludes(text, "8 epochs");
    assertStringIncludes(text, "a CPU, 2 threads, avx2");
    assertStringIncludes(text, "91.00 (90.00 to 93.00)");
    assertStringIncludes(text, "24.50 (gptq)");
    const widths = new Set(
      text
        .split("\n")
        .filter((line) => line.startsWith("|"))
        .map((line) => line.length),
    );
    assertEquals(widths.size, 1);
  });

  it("refuses results of different evaluations", () => {
    const short = { ...results[0], evaluation: { ...evaluation, windows: 2 } };
    assertThrows(() => renderTable([...results, short]), Error, "the number of windows");
  });
});
