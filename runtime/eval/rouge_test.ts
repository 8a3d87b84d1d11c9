import { assertAlmostEquals, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { type RougeScores, rouge } from "./rouge.ts";

function assertScores(actual: RougeScores, [rouge1, rouge2, rougeL]: readonly [number, number, number]): void {
  assertAlmostEquals(actual.rouge1, rouge1, 1e-12);
  assertAlmostEquals(actual.rouge2, rouge2, 1e-12);
  assertAlmostEquals(actual.rougeL, rougeL, 1e-12);
}

describe("rouge", () => {
  it("gives the values of the example in Lin's paper: word order decides ROUGE-L where ROUGE-2 is the same", () => {
    const reference = "police killed the gunman";
    assertScores(rouge(reference, "police kill the gunman"), [3 / 4, 1 / 3, 3 / 4]);
    assertScores(rouge(reference, "the gunman kill police"), [3 / 4, 1 / 3, 2 / 4]);
  });

  it("is the harmonic mean of precision and recall", () => {
    // Precision 1, recall 2/3; for pairs of words 1 and 1/2.
    assertScores(rouge("testing one two", "testing one"), [4 / 5, 2 / 3, 4 / 5]);
    // One pair, and it is not in the reference: the words stand apart there.
    assertScores(rouge("testing one two", "testing two"), [4 / 5, 0, 4 / 5]);
    assertScores(rouge("testing one two", "testing"), [1 / 2, 0, 1 / 2]);
  });

  it("counts a repeated word only as often as both have it", () => {
    // Words: 1 of 2 and 4; pairs: none of "a b" is in "a a a a".
    assertScores(rouge("a b", "a a a a"), [2 / 6, 0, 2 / 6]);
    // Pairs of the reference: "a a" twice; of the candidate: "a a" three times.
    assertScores(rouge("a a a", "a a a a"), [6 / 7, 4 / 5, 6 / 7]);
  });

  it("ignores case and punctuation", () => {
    assertScores(rouge("The cat, the 2nd, sat!", "the CAT (the 2nd) sat"), [1, 1, 1]);
  });

  it("is 0 without words", () => {
    for (const [reference, candidate] of [
      ["", "words"],
      ["words", ""],
      ["", ""],
      ["...", "..."],
      ["один два", "один два"],
    ]) {
      assertEquals(rouge(reference, candidate), { rouge1: 0, rouge2: 0, rougeL: 0 });
    }
  });

  it("finds the longest common subsequence of long texts", () => {
    const reference = Array.from({ length: 200 }, (_, i) => `w${i}`);
    const candidate = reference.filter((_, i) => i % 2 === 0).reverse();
    // Reversed, one word of 100 is all that keeps its order.
    assertScores(rouge(reference.join(" "), candidate.join(" ")), [200 / 300, 0, 2 / 300]);
  });
});
