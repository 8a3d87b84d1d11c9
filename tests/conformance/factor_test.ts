import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ApiqError } from "../../ffi/mod.ts";
import { assertClose, assertSameBits, Bench, onEveryIsa, Random } from "./harness.ts";

/** A positive definite matrix [n, n] of float32 values; the upper triangle holds NaNs, which nobody may read. */
function positiveDefinite(n: number, seed: number): Float32Array {
  const random = new Random(seed);
  const samples = n + 8;
  const x = random.normals(samples * n);
  const a = new Float32Array(n * n).fill(Number.NaN);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = i === j ? 0.05 * samples : 0;
      for (let s = 0; s < samples; s++) sum += x[s * n + i]! * x[s * n + j]!;
      a[i * n + j] = sum / samples;
    }
  }
  return a;
}

/** A well conditioned lower triangular matrix with something else above the diagonal. */
function lowerTriangular(n: number, seed: number): Float32Array {
  const random = new Random(seed);
  const l = random.normals(n * n, 1 / Math.sqrt(n));
  for (let i = 0; i < n; i++) l[i * n + i] = 1 + random.uniform();
  return l;
}

/** L of a = L L^T in float64. */
function cholesky64(a: Float32Array, n: number): Float64Array {
  const l = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = a[i * n + j]!;
      for (let k = 0; k < j; k++) sum -= l[i * n + k]! * l[j * n + k]!;
      l[i * n + j] = i === j ? Math.sqrt(sum) : sum / l[j * n + j]!;
    }
  }
  return l;
}

const SIZES = [1, 2, 7, 33, 64, 65, 150, 257];

describe("cholesky", () => {
  it("equals float64 at sizes on and off the panels, and writes zeros above the diagonal", () => {
    for (const n of SIZES) {
      const a = positiveDefinite(n, n);
      const l = onEveryIsa((bench) => {
        const matrix = bench.f32(a);
        const failedPivot = bench.i32([7]);
        bench.context.cholesky({ a: matrix, failedPivot, n });
        assertEquals(bench.readInts(failedPivot, 1)[0], -1);
        return bench.read(matrix, n * n);
      });
      // Elements are below 2 and rounded once each; the matrix is conditioned so that this is all that shows.
      assertClose(l, cholesky64(a, n), 3e-6, `${n}`);
    }
  });

  it("reproduces its matrix to float32 rounding", () => {
    const n = 200;
    const a = positiveDefinite(n, 3);
    using bench = new Bench();
    const matrix = bench.f32(a);
    bench.context.cholesky({ a: matrix, failedPivot: bench.i32([0]), n });
    const l = bench.read(matrix, n * n);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j <= i; j++) {
        let sum = 0;
        for (let k = 0; k <= j; k++) sum += l[i * n + k]! * l[j * n + k]!;
        assert(Math.abs(sum - a[i * n + j]!) <= 4e-7, `${i}, ${j}: ${sum}, expected ${a[i * n + j]}`);
      }
    }
  });

  it("names the first pivot that is not positive", () => {
    const n = 150;
    for (const [bad, value] of [
      [0, 0],
      [3, -1],
      [70, Number.NaN],
      [149, -10],
      [64, Number.POSITIVE_INFINITY],
    ] as const) {
      const a = positiveDefinite(n, 5);
      a[bad * n + bad] = value;
      const failed = onEveryIsa((bench) => {
        const failedPivot = bench.i32([-5]);
        bench.context.cholesky({ a: bench.f32(a), failedPivot, n });
        return bench.readInts(failedPivot, 1);
      });
      assertEquals(failed[0], bad);
    }
  });

  it("refuses sizes and places that do not fit", () => {
    using bench = new Bench();
    const a = bench.room(16);
    const failedPivot = bench.i32([0]);
    const { context } = bench;
    assertStringIncludes(
      assertThrows(() => context.cholesky({ a, failedPivot, n: 0 }), ApiqError).message,
      "n: received 0",
    );
    assertStringIncludes(assertThrows(() => context.cholesky({ a, failedPivot, n: 5 }), ApiqError).message, "a");
    const inside = { buffer: a.buffer, offset: 8 };
    assertStringIncludes(
      assertThrows(() => context.cholesky({ a, failedPivot: inside, n: 4 }), ApiqError).message,
      "overlap",
    );
  });
});

describe("triangularInverse", () => {
  it("equals float64, and reads nothing above the diagonal", () => {
    for (const n of SIZES) {
      const l = lowerTriangular(n, n);
      const withNaNs = Float32Array.from(l, (value, i) => (i % n > Math.floor(i / n) ? Number.NaN : value));
      const y = onEveryIsa((bench) => {
        const result = bench.room(n * n);
        bench.context.triangularInverse({ l: bench.f32(withNaNs), y: result, n });
        return bench.read(result, n * n);
      });
      const expected = new Float64Array(n * n);
      for (let j = 0; j < n; j++) {
        for (let i = j; i < n; i++) {
          let sum = i === j ? 1 : 0;
          for (let k = j; k < i; k++) sum -= l[i * n + k]! * expected[k * n + j]!;
          expected[i * n + j] = sum / l[i * n + i]!;
        }
      }
      assertClose(y, expected, 2e-6, `${n}`);
    }
  });

  it("names a zero on the diagonal", () => {
    const n = 100;
    const l = lowerTriangular(n, 1);
    l[77 * n + 77] = 0;
    using bench = new Bench();
    const y = bench.room(n * n);
    bench.context.triangularInverse({ l: bench.f32(l), y, n });
    const error = assertThrows(() => bench.read(y, 1), ApiqError);
    assertEquals(error.status, "OUT_OF_RANGE");
    assertStringIncludes(error.message, "diagonal element 77");
  });

  it("refuses sizes and places that do not fit", () => {
    using bench = new Bench();
    const l = bench.room(16);
    const y = bench.room(16);
    const { context } = bench;
    assertStringIncludes(
      assertThrows(() => context.triangularInverse({ l, y, n: 0 }), ApiqError).message,
      "n: received 0",
    );
    assertStringIncludes(
      assertThrows(() => context.triangularInverse({ l, y: l, n: 4 }), ApiqError).message,
      "overlap",
    );
    assertStringIncludes(assertThrows(() => context.triangularInverse({ l, y, n: 5 }), ApiqError).message, "l");
  });
});

describe("cholesky and triangularInverse", () => {
  it("run from a recorded graph as they do at once", () => {
    const n = 130;
    using bench = new Bench("auto", 2);
    const a = positiveDefinite(n, 9);
    const once = bench.f32(a);
    const inverse = bench.room(n * n);
    const failedPivot = bench.i32([0]);
    bench.context.cholesky({ a: once, failedPivot, n });
    bench.context.triangularInverse({ l: once, y: inverse, n });
    const expected = bench.read(inverse, n * n);
    const again = bench.room(n * n);
    const other = bench.room(n * n);
    const graph = bench.context.record(() => {
      bench.context.cholesky({ a: again, failedPivot, n });
      bench.context.triangularInverse({ l: again, y: other, n });
    });
    for (let launch = 0; launch < 2; launch++) {
      again.buffer.upload(a);
      graph.launch();
      assertSameBits(bench.read(other, n * n), expected, `launch ${launch}`);
    }
  });
});
