import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { learningRateFactor } from "./schedule.ts";

describe("the schedule of learning rates", () => {
  it("constant: 1 throughout", () => {
    assertEquals(
      [0, 0.3, 0.99].map((progress) => learningRateFactor("constant", progress)),
      [1, 1, 1],
    );
  });

  it("cosine: from 1 over a half to 0, falling, as the cosine does to six digits", () => {
    assertEquals(
      [0, 0.5, 1].map((progress) => learningRateFactor("cosine", progress)),
      [1, 0.5, 0],
    );
    for (let i = 0; i < 100; i++) {
      const [now, next] = [i / 100, (i + 1) / 100].map((progress) => learningRateFactor("cosine", progress));
      assert(next < now);
      assert(Math.abs(now - (1 + Math.cos((Math.PI * i) / 100)) / 2) < 1e-6);
    }
  });
});
