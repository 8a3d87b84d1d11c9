import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ApiqError } from "../../ffi/mod.ts";
import { dropoutMask } from "./dropout_reference.ts";
import { assertClose, Bench, onEveryIsa, Random } from "./harness.ts";

const run = (bench: Bench, x: Float32Array, options: { seed: bigint; stream: bigint; probability: number }) => {
  const y = bench.room(x.length);
  bench.context.dropout({ x: bench.f32(x), y, count: x.length, ...options, accumulate: 0 });
  return bench.read(y, x.length);
};

describe("dropout", () => {
  it("keeps the elements that the generator says, scaled, whatever the shape of the work", () => {
    for (const [count, probability, seed, stream] of [
      [1, 0.5, 0n, 0n],
      [15, 0.25, 7n, 3n],
      [63, 0.05, 2n ** 64n - 1n, 2n ** 64n - 1n],
      [65, 0.9, 0x299f31d0a4093822n, 5n],
      [16385, 0.1, 42n, 2n ** 40n],
      [40001, 0.5, 1n, 1n],
    ] as const) {
      const x = new Random(count).normals(count);
      const y = onEveryIsa((bench) => run(bench, x, { seed, stream, probability }));
      const kept = dropoutMask(count, seed, stream, probability);
      const scale = Math.fround(1 / (1 - Math.fround(probability)));
      assertEquals(
        y,
        x.map((value, i) => (kept[i] ? value * scale : value * 0)),
      );
    }
  });

  it("adds to y where asked for, works in place, and is the identity without a probability", () => {
    const count = 100;
    const [x, before] = [new Random(1).normals(count), new Random(2).normals(count)];
    const options = { count, seed: 3, stream: 4, probability: 0.3 };
    const all = onEveryIsa((bench) => {
      const [plain, sum, inPlace, whole] = [bench.room(count), bench.f32(before), bench.f32(x), bench.room(count)];
      const ref = bench.f32(x);
      bench.context.dropout({ x: ref, y: plain, ...options, accumulate: 0 });
      bench.context.dropout({ x: ref, y: sum, ...options, accumulate: 1 });
      bench.context.dropout({ x: inPlace, y: inPlace, ...options, accumulate: 0 });
      bench.context.dropout({ x: ref, y: whole, ...options, probability: 0, accumulate: 0 });
      return Float32Array.from([plain, sum, inPlace, whole].flatMap((y) => [...bench.read(y, count)]));
    });
    const part = (i: number) => all.slice(i * count, (i + 1) * count);
    assertClose(
      part(1),
      before.map((value, i) => value + part(0)[i]!),
      3e-7,
      "sum",
    );
    assertEquals(part(2), part(0));
    assertEquals(part(3), x);
  });

  it("keeps the share that it should, and other streams and seeds keep others", () => {
    using bench = new Bench();
    const count = 100_000;
    const ones = new Float32Array(count).fill(1);
    const probability = 0.1;
    const masks = [
      [1n, 1n],
      [1n, 2n],
      [2n, 1n],
    ].map(([seed, stream]) => run(bench, ones, { seed: seed!, stream: stream!, probability }).map(Math.sign));
    for (const kept of masks) {
      const share = kept.reduce((sum, value) => sum + value, 0) / count;
      // Four standard deviations.
      assertClose([share], [0.9], 4 * Math.sqrt((0.9 * 0.1) / count), "share");
    }
    for (const [a, b] of [
      [0, 1],
      [0, 2],
      [1, 2],
    ] as const) {
      const both = masks[a]!.reduce((sum, value, i) => sum + value * masks[b]![i]!, 0) / count;
      assertClose([both], [0.81], 4 * Math.sqrt((0.81 * 0.19) / count), "independent masks");
    }
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const good = {
      ...{ x: bench.f32(new Float32Array(64)), y: bench.room(64), count: 64, seed: 1, stream: 1 },
      ...{ probability: 0.5, accumulate: 0 },
    };
    bench.context.dropout(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      assertEquals(assertThrows(() => bench.context.dropout({ ...good, ...bad }), ApiqError).status, status);
    };
    refused({ count: 0 }, "INVALID_ARGUMENT");
    refused({ count: 65 }, "OUT_OF_RANGE");
    refused({ probability: 1 }, "INVALID_ARGUMENT");
    refused({ probability: -0.1 }, "INVALID_ARGUMENT");
    refused({ accumulate: 2 }, "INVALID_ARGUMENT");
    refused({ y: good.x, accumulate: 1 }, "INVALID_ARGUMENT");
    refused({ y: good.x.buffer.at(4), count: 63 }, "INVALID_ARGUMENT");
    assert(bench.read(good.y, 64).every((value) => value === 0));
  });
});
