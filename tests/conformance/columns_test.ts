import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ApiqError } from "../../ffi/mod.ts";
import { assertClose, Bench, onEveryIsa, Random } from "./harness.ts";

/** rows, cols: one element, ragged vectors, several strips and items. */
const SHAPES = [
  [1, 1],
  [3, 15],
  [40, 64],
  [7, 129],
  [300, 576],
  [2, 70001],
] as const;

const column = (c: number, rows: number, cols: number) => Array.from({ length: rows }, (_, r) => r * cols + c);

describe("scaleColumns", () => {
  it("is a float32 product, in place too", () => {
    for (const [rows, cols] of SHAPES) {
      const random = new Random(cols);
      const [x, scale] = [random.normals(rows * cols), random.normals(cols)];
      const y = onEveryIsa((bench) => {
        const [ref, apart] = [bench.f32(x), bench.room(rows * cols)];
        bench.context.scaleColumns({ x: ref, scale: bench.f32(scale), y: apart, rows, cols });
        bench.context.scaleColumns({ x: ref, scale: bench.f32(scale), y: ref, rows, cols });
        return Float32Array.from([...bench.read(apart, rows * cols), ...bench.read(ref, rows * cols)]);
      });
      const expected = x.map((value, i) => value * scale[i % cols]!);
      assertEquals(y.slice(0, x.length), expected);
      assertEquals(y.slice(x.length), expected);
    }
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const good = { x: bench.room(64), scale: bench.room(16), y: bench.room(64), rows: 4, cols: 16 };
    bench.context.scaleColumns(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      assertEquals(assertThrows(() => bench.context.scaleColumns({ ...good, ...bad }), ApiqError).status, status);
    };
    refused({ rows: 0 }, "INVALID_ARGUMENT");
    refused({ cols: 0 }, "INVALID_ARGUMENT");
    refused({ y: good.scale, rows: 1 }, "INVALID_ARGUMENT");
    refused({ y: good.x.buffer.at(4), rows: 3 }, "INVALID_ARGUMENT");
    refused({ rows: 5 }, "OUT_OF_RANGE");
  });
});

describe("dotColumns", () => {
  it("is the float64 sum of products, rounded once, added to what was there where asked for", () => {
    for (const [rows, cols] of SHAPES) {
      const random = new Random(rows + cols);
      const [a, b, before] = [random.normals(rows * cols), random.normals(rows * cols), random.normals(cols, 30)];
      const y = onEveryIsa((bench) => {
        const results = [0, 1].flatMap((accumulate) =>
          [bench.f32(b), null].map((factor) => {
            const ref = bench.f32(before);
            bench.context.dotColumns({ a: bench.f32(a), b: factor, y: ref, rows, cols, accumulate });
            return bench.read(ref, cols);
          }),
        );
        return Float32Array.from(results.flatMap((result) => [...result]));
      });
      const sums = (f: (i: number) => number, start: (c: number) => number) =>
        Array.from({ length: cols }, (_, c) => column(c, rows, cols).reduce((sum, i) => sum + f(i), start(c)));
      const [product, alone] = [(i: number) => a[i]! * b[i]!, (i: number) => a[i]!];
      const [nothing, old] = [() => 0, (c: number) => before[c]!];
      const expected = [sums(product, nothing), sums(alone, nothing), sums(product, old), sums(alone, old)];
      // One rounding to float32; the sums themselves are good to 1e-14.
      expected.flat().forEach((sum, i) => {
        assertClose([y[i]!], [sum], 6e-8 * Math.abs(sum) + 1e-12, `${rows} x ${cols}: ${i}`);
      });
    }
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const good = { a: bench.room(64), b: bench.room(64), y: bench.room(16), rows: 4, cols: 16, accumulate: 0 };
    bench.context.dotColumns(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      assertEquals(assertThrows(() => bench.context.dotColumns({ ...good, ...bad }), ApiqError).status, status);
    };
    refused({ accumulate: 2 }, "INVALID_ARGUMENT");
    refused({ rows: 0 }, "INVALID_ARGUMENT");
    refused({ y: good.a }, "INVALID_ARGUMENT");
    refused({ y: good.b }, "INVALID_ARGUMENT");
    refused({ rows: 5 }, "OUT_OF_RANGE");
    refused({ y: bench.room(15) }, "OUT_OF_RANGE");
  });
});

describe("rowNorms", () => {
  it("equals float64, rounded once, also where squares leave float32", () => {
    for (const [rows, cols] of SHAPES) {
      const x = new Random(cols + 1).normals(rows * cols, 2).map((value, i) => value * (i % 3 === 0 ? 1e30 : 1e-3));
      const y = onEveryIsa((bench) => {
        const result = bench.room(rows);
        bench.context.rowNorms({ x: bench.f32(x), y: result, rows, cols });
        return bench.read(result, rows);
      });
      const relative = Array.from(
        y,
        (value, r) => value / Math.sqrt(x.slice(r * cols, (r + 1) * cols).reduce((s, v) => s + v * v, 0)),
      );
      assertClose(relative, new Array(rows).fill(1), 6e-8, `${rows} x ${cols}`);
    }
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const good = { x: bench.room(64), y: bench.room(4), rows: 4, cols: 16 };
    bench.context.rowNorms(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      assertEquals(assertThrows(() => bench.context.rowNorms({ ...good, ...bad }), ApiqError).status, status);
    };
    refused({ cols: 0 }, "INVALID_ARGUMENT");
    refused({ y: good.x }, "INVALID_ARGUMENT");
    refused({ rows: 5 }, "OUT_OF_RANGE");
  });
});
