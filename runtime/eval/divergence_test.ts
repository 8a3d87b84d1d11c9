import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createTinyModel, TINY_VOCAB } from "../../tests/fixtures/tiny_model.ts";
import { goldenModel, logitsOf } from "../../tests/golden/load.ts";
import { compareLogits, divergence } from "./divergence.ts";

/** KL by its definition, over probabilities. */
function definition(p: readonly number[], q: readonly number[]): number {
  const softmax = (x: readonly number[]) => {
    const sum = x.reduce((total, value) => total + Math.exp(value), 0);
    return x.map((value) => Math.exp(value) / sum);
  };
  const b = softmax(q);
  return softmax(p).reduce((sum, value, i) => sum + value * Math.log(value / b[i]), 0);
}

describe("compareLogits", () => {
  it("gives the divergence by its definition, in the direction reference to model", () => {
    const p = [0.5, -1, 2, 0.25, -3];
    const q = [1.5, 0, -0.5, 2, 0.125];
    const { kl, agree } = compareLogits(Float32Array.from(p), Float32Array.from(q), 0, 5);
    assertAlmostEquals(kl, definition(p, q), 1e-14);
    assert(Math.abs(definition(p, q) - definition(q, p)) > 0.01);
    assertEquals(agree, false);
  });

  it("looks at its own row only", () => {
    const rows = Float32Array.of(9, 9, 9, 1, 2, 3, 9, 9, 9);
    const other = Float32Array.of(-9, 0, 9, 1, 2, 4, 5, 6, 7);
    assertAlmostEquals(compareLogits(rows, other, 3, 3).kl, definition([1, 2, 3], [1, 2, 4]), 1e-14);
    assertEquals(compareLogits(rows, other, 3, 3).agree, true);
  });

  it("is 0 for equal distributions, whatever constant is added to the logits", () => {
    const p = Float32Array.of(1, 2, 3);
    assertEquals(compareLogits(p, p, 0, 3), { kl: 0, agree: true });
    assertAlmostEquals(compareLogits(p, Float32Array.of(101, 102, 103), 0, 3).kl, 0, 1e-14);
  });

  it("stays finite where logits are far apart", () => {
    const { kl } = compareLogits(Float32Array.of(1e4, 0), Float32Array.of(0, 1e4), 0, 2);
    assertEquals(kl, 1e4);
  });
});

describe("divergence", () => {
  it("is the mean over all positions of all windows", async () => {
    using tiny = await createTinyModel({ loraRank: 4 });
    using other = await createTinyModel({ seed: 2 });
    using reference = goldenModel(tiny.dir);
    using model = goldenModel(other.dir);
    const windows = [300, 45].map((length) => Array.from({ length }, (_, i) => (length + i * 17) % TINY_VOCAB));
    const expected = { kl: 0, agreement: 0, tokens: 345, windows: 2 };
    for (const window of windows) {
      const [p, q] = [reference, model].map((loaded) => logitsOf(loaded, window));
      for (let row = 0; row < window.length; row++) {
        const [a, b] = [p, q].map((logits) => [...logits.subarray(row * TINY_VOCAB, (row + 1) * TINY_VOCAB)]);
        expected.kl += definition(a, b) / 345;
        const top = (logits: readonly number[]) => logits.indexOf(Math.max(...logits));
        expected.agreement += top(a) === top(b) ? 1 / 345 : 0;
      }
    }
    const tokens: number[] = [];
    const side = (loaded: typeof model) => ({ loaded, adapterSlot: -1 });
    const result = await divergence(side(reference), side(model), windows, (soFar) => {
      tokens.push(soFar.tokens);
    });
    assertAlmostEquals(result.kl, expected.kl, 1e-12);
    assertAlmostEquals(result.agreement, expected.agreement, 1e-12);
    assertEquals([result.tokens, result.windows, tokens.at(-1)], [345, 2, 345]);
  });

  it("refuses models of different vocabularies", async () => {
    using tiny = await createTinyModel();
    using loaded = goldenModel(tiny.dir);
    const other = { ...loaded, config: { ...loaded.config, vocabSize: 7 } };
    await assertRejects(
      () => divergence({ loaded, adapterSlot: -1 }, { loaded: other, adapterSlot: -1 }, [[1, 2]]),
      Error,
      "received vocabularies of 7 and 320 tokens, expected the same",
    );
  });
});
