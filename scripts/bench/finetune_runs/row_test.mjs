import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { measuredBefore } from "./row.mjs";

describe("measuredBefore", () => {
  it("takes the quality table's perplexity of the very same model and windows, and no other", () => {
    const quality = mkdtempSync(join(tmpdir(), "apiq-quality-"));
    try {
      const evaluation = { window: 1024, windows: 40, tokens: 40920, seconds: 9 };
      const result = { fingerprint: "ab", ppl: 20, nll: 3, evaluation, commands: ["quantize", "eval ppl"] };
      writeFileSync(join(quality, "rtn.json"), JSON.stringify(result));
      const row = { base: { name: "rtn" }, task: { evaluation: { kind: "perplexity" } } };
      const model = { fingerprint: "ab" };
      const settings = { quality, windows: 40 };
      assertEquals(measuredBefore(row, model, settings), { ppl: 20, nll: 3, ...evaluation, command: "eval ppl" });
      assertEquals(measuredBefore(row, { fingerprint: "cd" }, settings), null);
      assertEquals(measuredBefore(row, model, { quality, windows: 2 }), null);
      assertEquals(measuredBefore({ ...row, base: { name: "nf2" } }, model, settings), null);
      assertEquals(measuredBefore({ ...row, task: { evaluation: { kind: "accuracy" } } }, model, settings), null);
    } finally {
      rmSync(quality, { recursive: true });
    }
  });
});
