import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ApiqError } from "../../ffi/mod.ts";
import { assertClose, Bench, onEveryIsa, Random } from "./harness.ts";

/** Around the vector width, the size of an item, and beyond. */
const COUNTS = [1, 15, 16, 17, 100, 2048, 16384, 16385, 50001];

describe("add", () => {
  it("is float32 addition, in place too", () => {
    for (const count of COUNTS) {
      const random = new Random(count);
      const a = random.normals(count);
      const b = random.normals(count);
      const y = onEveryIsa((bench) => {
        const sum = bench.room(count);
        const inPlace = bench.f32(a);
        const addend = bench.f32(b);
        bench.context.add({ a: inPlace, b: addend, y: sum, count });
        bench.context.add({ a: inPlace, b: addend, y: inPlace, count });
        bench.context.add({ a: inPlace, b: addend, y: addend, count });
        const all = new Float32Array(3 * count);
        [sum, inPlace, addend].forEach((ref, i) => {
          all.set(bench.read(ref, count), i * count);
        });
        return all;
      });
      const sum = a.map((value, i) => value + b[i]!);
      assertEquals(y.slice(0, count), sum);
      assertEquals(y.slice(count, 2 * count), sum);
      assertEquals(
        y.slice(2 * count),
        sum.map((value, i) => value + b[i]!),
      );
    }
  });
});

describe("siluMul", () => {
  it("equals float64 to a few units in the last place", () => {
    for (const count of COUNTS) {
      const random = new Random(count + 1);
      const gate = random.normals(count, 4);
      const up = random.normals(count);
      const y = onEveryIsa((bench) => {
        const result = bench.room(count);
        bench.context.siluMul({ gate: bench.f32(gate), up: bench.f32(up), y: result, count });
        return bench.read(result, count);
      });
      // exp, the sum, the division and the product round once each, by 6e-8; exp's polynomial adds 1e-7.
      const relative = Array.from(y, (value, i) => value / ((gate[i]! / (1 + Math.exp(-gate[i]!))) * up[i]!));
      assertClose(relative, new Array(count).fill(1), 4e-7, "relative result");
    }
  });

  it("saturates without overflow", () => {
    const gate = [-1e30, -200, -90, -88, 0, 88, 90, 200, 1e30, -Infinity, Infinity];
    const y = onEveryIsa((bench) => {
      const result = bench.room(gate.length);
      const up = bench.f32(gate.map(() => 1));
      bench.context.siluMul({ gate: bench.f32(gate), up, y: result, count: gate.length });
      return bench.read(result, gate.length);
    });
    assertClose(y.slice(0, 5), [0, 0, 0, 0, 0], 1e-36, "low gates");
    assertEquals([...y.slice(5, 9)], [88, 90, 200, Math.fround(1e30)]);
    assertEquals([...y.slice(9)], [Number.NaN, Infinity]); // -infinity / infinity, as in float64
  });

  it("may write over its inputs", () => {
    const count = 33;
    const values = new Random(1).normals(count);
    const y = onEveryIsa((bench) => {
      const [gate, up, apart] = [bench.f32(values), bench.f32(values), bench.room(count)];
      bench.context.siluMul({ gate, up, y: apart, count });
      bench.context.siluMul({ gate, up, y: up, count });
      bench.context.siluMul({ gate, up: bench.f32(values), y: gate, count });
      const all = new Float32Array(3 * count);
      [apart, up, gate].forEach((ref, i) => {
        all.set(bench.read(ref, count), i * count);
      });
      return all;
    });
    assertEquals(y.slice(count, 2 * count), y.slice(0, count));
    assertEquals(y.slice(2 * count), y.slice(0, count));
  });
});

describe("elementwise checks", () => {
  it("refuses overlaps, short buffers and misaligned refs", () => {
    using bench = new Bench();
    const a = bench.room(64);
    const b = bench.room(64);
    const refused = (args: Parameters<typeof bench.context.add>[0], status: string) => {
      assertEquals(assertThrows(() => bench.context.add(args), ApiqError).status, status);
    };
    refused({ a, b, y: b, count: 65 }, "OUT_OF_RANGE");
    refused({ a, b, y: b, count: 2 ** 52 }, "OUT_OF_RANGE");
    refused({ a, b, y: b, count: 0 }, "INVALID_ARGUMENT");
    refused({ a, b, y: null, count: 1 }, "INVALID_HANDLE");
    refused({ a, b, y: b.buffer.at(4), count: 63 }, "INVALID_ARGUMENT");
    refused({ a, b, y: a.buffer.at(2), count: 1 }, "INVALID_ARGUMENT");
  });
});
