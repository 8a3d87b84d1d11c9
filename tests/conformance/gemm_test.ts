import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ApiqError } from "../../ffi/mod.ts";
import type { GemmArgs } from "../../ffi/types.ts";
import { type Args, layouts, Problem, type Shape } from "./gemm_problem.ts";
import { assertClose, assertSameBits, Bench, onEveryIsa } from "./harness.ts";

function check(shape: Shape, seed = 1): void {
  const problem = new Problem(shape, seed);
  const c = onEveryIsa((bench) => problem.run(bench));
  assertClose(c, problem.expected(), problem.bound, problem.name);
}

describe("gemm", () => {
  it("equals float64 over ragged shapes in every layout, with strides, alpha and beta", () => {
    const sizes = [
      [1, 1, 1],
      [1, 100, 37],
      [100, 1, 37],
      [2, 3, 500],
      [5, 49, 64],
      [7, 16, 9],
      [8, 48, 8],
      [9, 47, 385],
      [33, 97, 130],
      [70, 130, 3],
      [64, 64, 64],
    ] as const;
    for (const [transposeA, transposeB] of layouts) {
      sizes.forEach(([m, n, k], i) => {
        check({ m, n, k, transposeA, transposeB }, i);
        check({ m, n, k, transposeA, transposeB, gaps: [i % 4, (i + 1) % 5, (i + 2) % 3], alpha: -0.7, beta: 1 }, i);
        check({ m, n, k, transposeA, transposeB, gaps: [17, 0, 5], alpha: 2.5, beta: -0.3 }, i);
      });
    }
  });

  it("equals float64 for every number of rows and columns around a register tile", () => {
    for (const [transposeA, transposeB] of layouts) {
      for (let i = 1; i <= 18; i++) check({ m: i, n: 5 * i + 3, k: 11 + i, transposeA, transposeB, beta: 0.5 }, i);
    }
  });

  it("equals float64 where k takes several blocks, and m and n more than are packed at a time", () => {
    check({ m: 3, n: 5, k: 2305, transposeB: true, beta: 1 });
    check({ m: 4099, n: 3, k: 7 });
    check({ m: 2, n: 4150, k: 9, transposeA: true, transposeB: true, alpha: 0.5, beta: -1 });
    check({ m: 5, n: 4097, k: 400, beta: 2 });
  });

  it("equals float64 over the linears of a small model and their LoRA", () => {
    for (const shape of [
      { m: 80, n: 192, k: 576, transposeB: true },
      { m: 80, n: 576, k: 192 },
      { m: 192, n: 576, k: 80, transposeA: true },
      { m: 80, n: 64, k: 576, transposeB: true },
      { m: 80, n: 192, k: 64, transposeB: true, beta: 1 },
      { m: 64, n: 192, k: 80, transposeA: true },
    ]) {
      check(shape);
    }
  });

  it("sums in an order that depends on k alone: parts of c are the same bits, on any number of threads", () => {
    const whole = new Problem({ m: 100, n: 150, k: 700, transposeB: true }, 3);
    using bench = new Bench();
    const c = whole.run(bench);
    for (const threads of [2, 3, 5]) {
      using many = new Bench("auto", threads);
      assertSameBits(whole.run(many), c, `${threads} threads`);
    }
    const args = whole.args(bench);
    for (const [row, rows, col, cols] of [
      [0, 1, 0, 150],
      [99, 1, 149, 1],
      [13, 50, 7, 99],
      [0, 100, 64, 17],
    ] as const) {
      const at = (ref: typeof args.a, elements: number) => ref.buffer.at(ref.offset + elements * 4);
      const part = bench.room(rows * cols);
      const [a, b] = [at(args.a, row * whole.lda), at(args.b, col * whole.ldb)];
      bench.context.gemm({ ...args, a, b, c: part, m: rows, n: cols, ldc: cols });
      const expected = new Float32Array(rows * cols);
      for (let i = 0; i < rows; i++) {
        const from = (row + i) * 150 + col;
        expected.set(c.subarray(from, from + cols), i * cols);
      }
      assertSameBits(bench.read(part, rows * cols), expected, `${rows} rows from ${row}, ${cols} columns from ${col}`);
    }
  });

  it("sums blocks of at most 384 terms, each one chain of fused multiply-adds", () => {
    for (const [k, depth] of [
      [5, 8],
      [384, 384],
      [390, 200],
      [1000, 336],
    ] as const) {
      const [m, n] = [9, 50];
      const problem = new Problem({ m, n, k }, k);
      const chains = new Float32Array(m * n);
      for (let at = 0; at < m * n; at++) {
        const [row, col] = [Math.floor(at / n), at % n];
        for (let first = 0; first < k; first += depth) {
          let chain = 0;
          // A product of two float32 is exact in float64, so rounding the sum is what a fused multiply-add does.
          for (let p = first; p < Math.min(first + depth, k); p++) {
            chain = Math.fround(chain + problem.a[row * k + p]! * problem.b[p * n + col]!);
          }
          chains[at] = first === 0 ? chain : chains[at]! + chain;
        }
      }
      assertSameBits(
        onEveryIsa((bench) => problem.run(bench)),
        chains,
        `k = ${k}`,
      );
    }
  });

  it("replays from a graph with what its buffers hold then", () => {
    using bench = new Bench("auto", 2);
    const problem = new Problem({ m: 70, n: 90, k: 110, transposeA: true, beta: 1 }, 4);
    const args = problem.args(bench);
    using graph = bench.context.record(() => bench.context.gemm(args));
    assertSameBits(bench.read(args.c, problem.c.length), problem.c, "recording runs nothing");
    graph.launch();
    assertSameBits(bench.read(args.c, problem.c.length), problem.run(bench), "a launch");
  });
});

describe("gemm's checks", () => {
  const shape = { m: 6, n: 10, k: 14 };

  function refused(
    change: (bench: Bench, args: Args) => Partial<GemmArgs>,
    status: string,
    given: Shape = shape,
  ): void {
    using bench = new Bench();
    const args = new Problem(given).args(bench);
    bench.context.gemm(args);
    const error = assertThrows(() => bench.context.gemm({ ...args, ...change(bench, args) }), ApiqError);
    assertEquals(error.status, status, error.message);
  }

  it("refuses empty shapes and unknown flags", () => {
    for (const name of ["m", "n", "k"] as const) refused(() => ({ [name]: 0 }), "INVALID_ARGUMENT");
    refused(() => ({ compute: 2 }), "INVALID_ARGUMENT");
    refused(() => ({ transposeA: 2 }), "INVALID_ARGUMENT");
    refused(() => ({ transposeB: 2 }), "INVALID_ARGUMENT");
  });

  it("refuses leading dimensions below the stored columns, in every layout", () => {
    for (const [transposeA, transposeB] of layouts) {
      const given = { ...shape, transposeA, transposeB };
      for (const name of ["lda", "ldb", "ldc"] as const) {
        refused((_, args) => ({ [name]: args[name] - 1 }), "INVALID_ARGUMENT", given);
      }
    }
  });

  it("refuses matrices that reach past their buffers by one element or by far", () => {
    for (const [transposeA, transposeB] of layouts) {
      const given = { ...shape, transposeA, transposeB };
      for (const name of ["a", "b", "c"] as const) {
        refused((_, args) => ({ [name]: args[name].buffer.at(4) }), "OUT_OF_RANGE", given);
      }
      for (const name of ["lda", "ldb", "ldc"] as const) {
        refused((_, args) => ({ [name]: args[name] + 1 }), "OUT_OF_RANGE", given);
        refused(() => ({ [name]: 2 ** 32 - 1 }), "OUT_OF_RANGE", given);
      }
    }
    refused(() => ({ m: 2 ** 32 - 1 }), "OUT_OF_RANGE");
    refused(() => ({ k: 2 ** 32 - 1, lda: 2 ** 32 - 1 }), "OUT_OF_RANGE");
  });

  it("refuses a result that overlaps a factor, and takes one that ends where it begins", () => {
    using bench = new Bench();
    const memory = bench.f32(new Float32Array(3 * 16)).buffer;
    const [first, second, third] = [memory.at(0), memory.at(64), memory.at(128)];
    const square = {
      m: 4,
      n: 4,
      k: 4,
      transposeA: 0,
      transposeB: 0,
      lda: 4,
      ldb: 4,
      ldc: 4,
      alpha: 1,
      beta: 0,
      compute: 0,
    };
    bench.context.gemm({ ...square, a: first, b: third, c: second });
    bench.context.gemm({ ...square, a: first, b: first, c: second });
    for (const [a, b, c] of [
      [first, third, first],
      [third, first, first],
      [first, third, memory.at(60)],
      [first, third, memory.at(68)],
    ] as const) {
      const error = assertThrows(() => bench.context.gemm({ ...square, a, b, c }), ApiqError);
      assertEquals(error.status, "INVALID_ARGUMENT", error.message);
    }
  });
});
