import { assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { compare, median, render, summarize } from "./report.mjs";

const result = (decodeMs, prefillMs) => ({
  decode: { tokensPerSecond: 1e3 / decodeMs, bestMs: decodeMs / 2 },
  prefill: { tokensPerSecond: 512e3 / prefillMs },
});
const summary = (engine, format, ...results) => summarize({ engine, format, bytesPerStep: 2e8 }, results, 1e10);

describe("benchmark report", () => {
  it("takes medians of odd and even counts", () => {
    assertEquals(median([5, 1, 3]), 3);
    assertEquals(median([4, 1, 3, 2]), 2.5);
  });

  it("summarizes rounds as median, best and fraction of bandwidth", () => {
    const { decode, prefill } = summary("apiq", "2-bit", result(20, 4000), result(25, 8000), result(40, 16000));
    assertEquals(decode.tokensPerSecond, 40);
    assertEquals(decode.bestTokensPerSecond, 100);
    assertEquals(decode.fractionOfBandwidth, 0.8);
    assertEquals(prefill.tokensPerSecond, 64);
    assertEquals(prefill.bestTokensPerSecond, 128);
  });

  it("compares decode with TQ2_0 and prefill with the fastest format", () => {
    const llamas = [summary("llama.cpp", "Q4_0", result(50, 2000)), summary("llama.cpp", "TQ2_0", result(40, 4000))];
    assertEquals(compare(summary("apiq", "2-bit", result(20, 1000)), llamas), {
      decode: { rival: "TQ2_0", ratio: 2, bestRatio: 2 },
      prefill: { rival: "Q4_0", ratio: 2, bestRatio: 2 },
    });
  });

  it("says why apiq is missing from the table", () => {
    const text = render({
      machine: { cpu: "a CPU", cores: 2, features: ["avx2"], loadAverage: 1.5 },
      shape: "tinyllama-1.1b",
      rounds: 1,
      promptTokens: 512,
      decodeSteps: 64,
      sides: { apiq: null, llama: null },
      measurements: [
        {
          threads: 2,
          bandwidth: { bytesPerSecond: 1e10, bestBytesPerSecond: 1.25e10 },
          summaries: [summary("llama.cpp", "TQ2_0", result(40, 4000))],
          apiqUnavailable: "it broke",
        },
      ],
      commands: ["a command"],
    });
    assertStringIncludes(text, "a CPU, 2 cores: avx2");
    assertStringIncludes(text, "load average was 1.5");
    assertStringIncludes(text, "2 threads, read bandwidth 10.0 (12.5) GB/s");
    assertStringIncludes(text, "llama.cpp TQ2_0    25.0 (50.0)       128.0 (128.0)         200           50 %");
    assertStringIncludes(text, "apiq: not available: it broke");
    assertStringIncludes(text, "$ a command");
  });
});
