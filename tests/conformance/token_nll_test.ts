import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ApiqError } from "../../ffi/mod.ts";
import { assertClose, Bench, onEveryIsa, Random } from "./harness.ts";

describe("tokenNll", () => {
  it("equals float64, also over a large vocabulary", () => {
    for (const [rows, vocab] of [
      [1, 1],
      [3, 17],
      [5, 320],
      [2, 151936],
    ] as const) {
      const random = new Random(vocab);
      const logits = random.normals(rows * vocab, 5);
      const targets = Array.from({ length: rows }, () => random.integer(vocab));
      const nll = onEveryIsa((bench) => {
        const result = bench.room(rows);
        bench.context.tokenNll({ logits: bench.f32(logits), targets: bench.i32(targets), nll: result, rows, vocab });
        return bench.read(result, rows);
      });
      const expected = targets.map((target, row) => {
        const values = logits.subarray(row * vocab, (row + 1) * vocab);
        const most = values.reduce((a, b) => Math.max(a, b));
        return most + Math.log(values.reduce((sum, value) => sum + Math.exp(value - most), 0)) - values[target]!;
      });
      // The sum has a relative error around 1e-6 (256 float32 additions a lane); the result, up to 60, is rounded once.
      assertClose(nll, expected, 4e-6, `${rows} x ${vocab}`);
    }
  });

  it("gives 0 for a negative target, and is exact for a certain token", () => {
    const nll = onEveryIsa((bench) => {
      const logits = bench.f32([0, 0, 0, 0, 1000, -1000, -1000, -1000]);
      const result = bench.room(2);
      bench.context.tokenNll({ logits, targets: bench.i32([-1, 0]), nll: result, rows: 2, vocab: 4 });
      return bench.read(result, 2);
    });
    assertEquals([...nll], [0, 0]);
  });

  it("reports a target past the vocabulary", () => {
    using bench = new Bench();
    const nll = bench.room(2);
    bench.context.tokenNll({
      logits: bench.f32(new Float32Array(8)),
      targets: bench.i32([1, 4]),
      nll,
      rows: 2,
      vocab: 4,
    });
    const error = assertThrows(() => bench.read(nll, 2), ApiqError);
    assertEquals(error.status, "OUT_OF_RANGE");
    assertStringIncludes(error.message, "row 1: received target 4");
    assertClose(bench.read(nll, 2), [Math.log(4), 0], 1e-7, "the other row");
  });
});
