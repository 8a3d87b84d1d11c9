import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { compareLogits, tokenIds } from "./logits.ts";

describe("compareLogits", () => {
  const expected = new Float32Array([1, 2, 3, 6, 5, 4]);

  it("finds the largest difference and counts equal top tokens", () => {
    const logits = new Float32Array([1, 2, 3.5, 6, 6.25, 4]);
    assertEquals(compareLogits(logits, expected, 3), { largest: 1.25, rows: 2, sameTop: 1 });
    assertEquals(compareLogits(expected, expected, 3), { largest: 0, rows: 2, sameTop: 2 });
  });

  it("takes a logit that is no number for an infinite difference", () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const logits = new Float32Array([bad, 2, 3, 6, 5, 4]);
      assertEquals(compareLogits(logits, expected, 3).largest, Number.POSITIVE_INFINITY);
    }
  });

  it("refuses logits of another number of rows", () => {
    assertThrows(() => compareLogits(expected.subarray(3), expected, 3), Error, "received 3 and 6");
  });
});

describe("tokenIds", () => {
  it("stays in the vocabulary, varies and repeats from call to call", () => {
    const ids = tokenIds(200, 320);
    assertEquals(
      ids.every((id) => Number.isInteger(id) && id >= 0 && id < 320),
      true,
    );
    assertEquals(new Set(ids).size > 100, true);
    assertEquals(ids, tokenIds(200, 320));
  });
});
