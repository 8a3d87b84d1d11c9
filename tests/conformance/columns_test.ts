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

describe("scaleRows", () => {
  it("is a float32 product, in place too", () => {
    for (const [rows, cols] of SHAPES) {
      const random = new Random(cols + 2);
      const [x, scale] = [random.normals(rows * cols), random.normals(rows)];
      const y = onEveryIsa((bench) => {
        const [ref, apart] = [bench.f32(x), bench.room(rows * cols)];
        bench.context.scaleRows({ x: ref, scale: bench.f32(scale), y: apart, rows, cols });
        bench.context.scaleRows({ x: ref, scale: bench.f32(scale), y: ref, rows, cols });
        return Float32Array.from([...bench.read(apart, rows * cols), ...bench.read(ref, rows * cols)]);
      });
      const expected = x.map((value, i) => value * scale[Math.floor(i / cols)]!);
      assertEquals(y.slice(0, x.length), expected);
      assertEquals(y.slice(x.length), expected);
    }
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const good = { x: bench.room(64), scale: bench.room(4), y: bench.room(64), rows: 4, cols: 16 };
    bench.context.scaleRows(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      assertEquals(assertThrows(() => bench.context.scaleRows({ ...good, ...bad }), ApiqError).status, status);
    };
    refused({ rows: 0 }, "INVALID_ARGUMENT");
    refused({ cols: 0 }, "INVALID_ARGUMENT");
    refused({ scale: good.y }, "INVALID_ARGUMENT");
    refused({ y: good.x.buffer.at(4), rows: 3 }, "INVALID_ARGUMENT");
    refused({ rows: 5 }, "OUT_OF_RANGE");
    refused({ scale: bench.room(3) }, "OUT_OF_RANGE");
  });
});

describe("dotRows", () => {
  it("is the float64 sum of products, rounded once, added to what was there where asked for", () => {
    for (const [rows, cols] of [...SHAPES, [5000, 64], [3, 32]] as const) {
      const random = new Random(2 * rows + cols);
      const [a, b, before] = [random.normals(rows * cols), random.normals(rows * cols), random.normals(rows, 30)];
      const y = onEveryIsa((bench) => {
        const results = [0, 1].map((accumulate) => {
          const ref = bench.f32(before);
          bench.context.dotRows({ a: bench.f32(a), b: bench.f32(b), y: ref, rows, cols, accumulate });
          return bench.read(ref, rows);
        });
        return Float32Array.from(results.flatMap((result) => [...result]));
      });
      const sum = (r: number, start: number): number => {
        for (let i = r * cols; i < (r + 1) * cols; i++) start += a[i]! * b[i]!;
        return start;
      };
      const expected = [before.map(() => 0), before].flatMap((starts) =>
        Array.from(starts, (start, r) => sum(r, start)),
      );
      expected.forEach((value, i) => {
        assertClose([y[i]!], [value], 6e-8 * Math.abs(value) + 1e-12, `${rows} x ${cols}: ${i}`);
      });
    }
  });

  it("gives the gradient of scaleRows' scales, by central differences", () => {
    const [rows, cols] = [9, 40];
    const random = new Random(11);
    const [x, scale, dy] = [random.normals(rows * cols), random.normals(rows), random.normals(rows * cols)];
    using bench = new Bench();
    const gradient = bench.room(rows);
    bench.context.dotRows({ a: bench.f32(dy), b: bench.f32(x), y: gradient, rows, cols, accumulate: 0 });
    const loss = (scales: Float64Array): number =>
      x.reduce((sum, value, i) => sum + value * scales[Math.floor(i / cols)]! * dy[i]!, 0);
    const step = 1e-3;
    const differences = Array.from(scale, (_, r) => {
      const [above, below] = [1, -1].map((sign) => {
        const moved = Float64Array.from(scale);
        moved[r] = moved[r]! + sign * step;
        return loss(moved);
      });
      return (above! - below!) / (2 * step);
    });
    assertClose(bench.read(gradient, rows), differences, 1e-5, "dscale");
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const good = { a: bench.room(64), b: bench.room(64), y: bench.room(4), rows: 4, cols: 16, accumulate: 0 };
    bench.context.dotRows(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      assertEquals(assertThrows(() => bench.context.dotRows({ ...good, ...bad }), ApiqError).status, status);
    };
    refused({ accumulate: 2 }, "INVALID_ARGUMENT");
    refused({ rows: 0 }, "INVALID_ARGUMENT");
    refused({ cols: 0 }, "INVALID_ARGUMENT");
    refused({ y: good.a }, "INVALID_ARGUMENT");
    refused({ y: good.b }, "INVALID_ARGUMENT");
    refused({ rows: 5 }, "OUT_OF_RANGE");
    refused({ y: bench.room(3) }, "OUT_OF_RANGE");
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
