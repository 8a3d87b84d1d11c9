import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ApiqError } from "../../ffi/mod.ts";
import { assertClose, Bench, onEveryIsa, Random } from "./harness.ts";

const inverseFrequencies = (half: number) => Float32Array.from({ length: half }, (_, i) => 10000 ** (-i / half));

describe("ropeTable", () => {
  it("holds cosines and sines of float32 angles, rounded once", () => {
    const half = 24;
    const positions = [0, 1, 7, 4095, 131071, ...Array.from({ length: 40 }, (_, i) => i * 31)];
    const inverse = inverseFrequencies(half);
    for (const scale of [1, 1.25]) {
      const table = onEveryIsa((bench) => {
        const result = bench.room(positions.length * 2 * half);
        const sizes = { rows: positions.length, halfDim: half, scale };
        bench.context.ropeTable({
          positions: bench.i32(positions),
          invFreq: bench.f32(inverse),
          table: result,
          ...sizes,
        });
        return bench.read(result, positions.length * 2 * half);
      });
      const expected = positions.flatMap((position) => {
        const angles = Array.from(inverse, (frequency) => Math.fround(position * frequency));
        return [...angles.map((angle) => Math.cos(angle) * scale), ...angles.map((angle) => Math.sin(angle) * scale)];
      });
      // One rounding of a number up to 1, half a unit of 2^-24, and for a scale one more.
      assertClose(table, expected, scale === 1 ? 3.1e-8 : 1.2e-7, `scale ${scale}`);
    }
  });
});

describe("rotary", () => {
  it("rotates the halves of every head", () => {
    for (const [rows, heads, headDim] of [
      [1, 1, 2],
      [3, 2, 48],
      [2, 32, 64],
      [70, 5, 128],
    ] as const) {
      const random = new Random(headDim);
      const half = headDim / 2;
      const x = random.normals(rows * heads * headDim);
      const table = Float32Array.from({ length: rows * headDim }, () => random.uniform() * 2 - 1);
      const y = onEveryIsa((bench) => {
        const ref = bench.f32(x);
        bench.context.rotary({ x: ref, table: bench.f32(table), rows, nHeads: heads, headDim, inverse: 0 });
        return bench.read(ref, x.length);
      });
      const expected = Array.from(x, (value, index) => {
        const row = Math.floor(index / (heads * headDim));
        const d = index % headDim;
        const [cos, sin] = [table[row * headDim + (d % half)]!, table[row * headDim + half + (d % half)]!];
        return d < half ? value * cos - x[index + half]! * sin : value * cos + x[index - half]! * sin;
      });
      // Two products of size 5 at most and their sum, each rounded once.
      assertClose(y, expected, 1e-6, `${rows} x ${heads} x ${headDim}`);
    }
  });

  it("rotates back by the negative angles where inverse is 1", () => {
    for (const [rows, heads, headDim] of [
      [1, 1, 2],
      [3, 2, 48],
      [70, 5, 128],
    ] as const) {
      const random = new Random(headDim + 1);
      const half = headDim / 2;
      const x = random.normals(rows * heads * headDim);
      const table = Float32Array.from({ length: rows * headDim }, () => random.uniform() * 2 - 1);
      const y = onEveryIsa((bench) => {
        const ref = bench.f32(x);
        bench.context.rotary({ x: ref, table: bench.f32(table), rows, nHeads: heads, headDim, inverse: 1 });
        return bench.read(ref, x.length);
      });
      const expected = Array.from(x, (value, index) => {
        const row = Math.floor(index / (heads * headDim));
        const d = index % headDim;
        const [cos, sin] = [table[row * headDim + (d % half)]!, table[row * headDim + half + (d % half)]!];
        return d < half ? value * cos + x[index + half]! * sin : value * cos - x[index - half]! * sin;
      });
      assertClose(y, expected, 1e-6, `${rows} x ${heads} x ${headDim}`);
    }
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const good = { x: bench.room(2 * 3 * 8), table: bench.room(2 * 8), rows: 2, nHeads: 3, headDim: 8, inverse: 0 };
    bench.context.rotary(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      assertEquals(assertThrows(() => bench.context.rotary({ ...good, ...bad }), ApiqError).status, status);
    };
    refused({ inverse: 2 }, "INVALID_ARGUMENT");
    refused({ headDim: 7 }, "INVALID_ARGUMENT");
    refused({ nHeads: 0 }, "INVALID_ARGUMENT");
    refused({ rows: 3 }, "OUT_OF_RANGE");
    refused({ rows: 2 ** 32 - 1, nHeads: 2 ** 32 - 1, headDim: 2 ** 32 - 2 }, "INVALID_ARGUMENT");
    refused({ table: good.x }, "INVALID_ARGUMENT");
  });
});
