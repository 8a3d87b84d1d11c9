import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Context } from "../../../ffi/mod.ts";
import { uniformNumbers } from "../random.ts";
import { factorGram } from "./gram_factor.ts";
import { orthonormalizeRows } from "./orthonormal.ts";
import { copyReversed, reverseInPlace } from "./reverse.ts";
import { truncatedSvd } from "./svd.ts";
import { symmetricEigen } from "./symmetric_eigen.ts";

function uniform(count: number, seed: number): Float64Array {
  return Float64Array.from({ length: count }, uniformNumbers(seed));
}

/** Largest deviation of the rows' products from the identity. */
function deviation(x: ArrayLike<number>, count: number, size: number): number {
  let worst = 0;
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < count; j++) {
      let sum = i === j ? -1 : 0;
      for (let k = 0; k < size; k++) sum += x[i * size + k]! * x[j * size + k]!;
      worst = Math.max(worst, Math.abs(sum));
    }
  }
  return worst;
}

/** u^T diag(values) v of [count, rows] and [count, cols]. */
function compose(u: ArrayLike<number>, values: ArrayLike<number>, v: ArrayLike<number>, count: number): Float64Array {
  const rows = u.length / count;
  const cols = v.length / count;
  const a = new Float64Array(rows * cols);
  for (let i = 0; i < count; i++) {
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < cols; c++)
        a[r * cols + c] = a[r * cols + c]! + u[i * rows + r]! * values[i]! * v[i * cols + c]!;
    }
  }
  return a;
}

/** A matrix with known singular values. */
function withSingularValues(rows: number, cols: number, values: readonly number[], seed: number): Float64Array {
  const u = uniform(values.length * rows, seed);
  const v = uniform(values.length * cols, seed + 1);
  orthonormalizeRows(u, values.length, rows);
  orthonormalizeRows(v, values.length, cols);
  return compose(u, values, v, values.length);
}

const norm = (x: ArrayLike<number>): number => Math.sqrt(Array.from(x).reduce((sum, value) => sum + value * value, 0));

describe("uniformNumbers", () => {
  it("gives the same numbers for the same seed, spread over -1 to 1", () => {
    const numbers = uniform(4000, 5);
    assertEquals(numbers, uniform(4000, 5));
    assert(numbers.every((x) => x >= -1 && x < 1));
    assert(Math.abs(numbers.reduce((a, b) => a + b, 0) / 4000) < 0.03);
    assert(Math.abs(norm(numbers) ** 2 / 4000 - 1 / 3) < 0.02);
  });

  it("gives other numbers for every choice of parts", () => {
    const firsts = new Set<string>();
    for (let a = 0; a < 12; a++) {
      for (let b = 0; b < 12; b++) {
        for (let c = 0; c < 12; c++) {
          const next = uniformNumbers(a, b, c);
          firsts.add(`${next()} ${next()} ${next()}`);
        }
      }
    }
    assertEquals(firsts.size, 12 ** 3);
  });
});

describe("orthonormalizeRows", () => {
  it("keeps the span and makes the rows orthonormal, also when they nearly coincide", () => {
    const [count, size] = [9, 31];
    const x = uniform(count * size, 1);
    for (let i = 1; i < count; i++) for (let k = 0; k < size; k++) x[i * size + k] = x[k]! + 1e-4 * x[i * size + k]!;
    const before = x.slice(0, size);
    orthonormalizeRows(x, count, size);
    assert(deviation(x, count, size) < 1e-10);
    const length = norm(before);
    for (let k = 0; k < size; k++) assert(Math.abs(x[k]! - before[k]! / length) < 1e-14);
  });

  it("makes a dependent row zero", () => {
    const x = Float64Array.of(1, 2, 2, 2, 4, 4, 0, 0, 0, 0, 3, 0);
    orthonormalizeRows(x, 4, 3);
    assertEquals([...x.slice(3, 9)], [0, 0, 0, 0, 0, 0]);
    assert(Math.abs(norm(x.slice(9)) - 1) < 1e-14);
  });
});

describe("symmetricEigen", () => {
  it("finds values and vectors to float64 rounding", () => {
    for (const n of [1, 2, 5, 40]) {
      const a = uniform(n * n, n);
      for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) a[i * n + j] = a[j * n + i]!;
      const { values, vectors } = symmetricEigen(a, n);
      assert(deviation(vectors, n, n) < 1e-13 * n);
      const back = compose(vectors, values, vectors, n);
      assert(norm(back.map((x, i) => x - a[i]!)) < 1e-14 * n * norm(a));
      assert(values.every((value, i) => i === 0 || value <= values[i - 1]!));
    }
  });

  it("knows the values of the second difference matrix", () => {
    const n = 25;
    const a = new Float64Array(n * n);
    for (let i = 0; i < n; i++) {
      a[i * n + i] = 2;
      if (i > 0) a[i * n + i - 1] = a[(i - 1) * n + i] = -1;
    }
    const { values } = symmetricEigen(a, n);
    for (let i = 0; i < n; i++) {
      assert(Math.abs(values[i]! - (2 - 2 * Math.cos((Math.PI * (n - i)) / (n + 1)))) < 1e-13, `${i}`);
    }
  });
});

describe("truncatedSvd", () => {
  const decaying = (count: number, base: number): number[] => Array.from({ length: count }, (_, i) => base ** i);

  it("finds the best approximation of its rank within one percent, for slow and fast spectra", () => {
    using context = Context.open({ threads: 2 });
    for (const [rows, cols, rank, base] of [
      [60, 40, 8, 0.98],
      [40, 90, 16, 0.9],
      [200, 128, 24, 0.995],
      [96, 96, 10, 0.5],
      [30, 200, 1, 1],
    ] as const) {
      const values = decaying(Math.min(rows, cols), base);
      const matrix = Float32Array.from(withSingularValues(rows, cols, values, rows));
      using a = context.alloc(matrix.byteLength);
      a.upload(matrix);
      const svd = truncatedSvd(context, a.at(0), [rows, cols], rank, { seed: [7] });
      const best = norm(values.slice(rank));
      const back = compose(svd.u, svd.values, svd.v, rank);
      const rest = norm(back.map((x, i) => matrix[i]! - x));
      assert(rest <= 1.01 * best + 2e-6, `${rows} x ${cols}, rank ${rank}: ${rest}, the best is ${best}`);
      assert(deviation(svd.u, rank, rows) < 2e-6 && deviation(svd.v, rank, cols) < 2e-6);
      if (base < 0.6) for (let i = 0; i < rank; i++) assert(Math.abs(svd.values[i]! - values[i]!) < 1e-6);
    }
  });

  it("gives zeros past the matrix's own rank, and all of it before", () => {
    using context = Context.open();
    const [rows, cols, rank] = [12, 20, 16];
    for (const values of [[3, 2, 1], [0]]) {
      const matrix = Float32Array.from(withSingularValues(rows, cols, values, 3));
      using a = context.alloc(matrix.byteLength);
      a.upload(matrix);
      const svd = truncatedSvd(context, a.at(0), [rows, cols], rank, { seed: [1] });
      assert(norm(compose(svd.u, svd.values, svd.v, rank).map((x, i) => x - matrix[i]!)) < 2e-6);
      assertEquals([...svd.values.slice(12)], [0, 0, 0, 0]);
      assert([...svd.u, ...svd.v].every(Number.isFinite));
    }
  });

  it("is the same for the same seed", () => {
    using context = Context.open();
    const matrix = Float32Array.from(uniform(50 * 70, 2));
    using a = context.alloc(matrix.byteLength);
    a.upload(matrix);
    const [first, again, other] = [3, 3, 4].map((seed) =>
      truncatedSvd(context, a.at(0), [50, 70], 5, { seed: [seed] }),
    );
    assertEquals(first, again);
    assert(first!.u.some((x, i) => x !== other!.u[i]));
  });
});

describe("reverseInPlace and copyReversed", () => {
  it("reverse rows and columns, in one buffer and into another", () => {
    using context = Context.open();
    // More than one piece of 2^20 floats, with a row in the middle that stays.
    for (const n of [1, 2, 5, 8, 1501]) {
      const values = Float32Array.from({ length: n * n }, (_, i) => i % 16777216);
      const expected = values.slice().reverse();
      using a = context.alloc(n * n * 4);
      using b = context.alloc(n * n * 4);
      a.upload(values);
      const seen = new Set<number>();
      copyReversed(a, b, n, (row, i) => {
        assertEquals(row[0], values[i * n + n - 1]);
        seen.add(i);
      });
      assertEquals(seen.size, n);
      assert(Buffer.from(b.download(new Float32Array(n * n)).buffer).equals(Buffer.from(expected.buffer)), `${n}`);
      reverseInPlace(a, n);
      assert(Buffer.from(a.download(new Float32Array(n * n)).buffer).equals(Buffer.from(expected.buffer)), `${n}`);
    }
  });
});

describe("factorGram", () => {
  /** X^T X / samples. */
  function gram(n: number, samples: number, seed: number): Float64Array {
    const x = uniform(samples * n, seed);
    const h = new Float64Array(n * n);
    for (let s = 0; s < samples; s++) {
      for (let i = 0; i < n; i++)
        for (let j = 0; j < n; j++) h[i * n + j] = h[i * n + j]! + (x[s * n + i]! * x[s * n + j]!) / samples;
    }
    return h;
  }

  function factors(h: Float64Array, n: number, damping: number) {
    using context = Context.open({ threads: 2 });
    const a = context.alloc(n * n * 4);
    a.upload(Float32Array.from(h));
    const factor = factorGram(context, a, context.alloc(n * n * 4), n, damping, "o_proj");
    const read = (buffer: typeof a): Float32Array => buffer.download(new Float32Array(n * n));
    return { factor, inverse: read(factor.inverse), root: read(factor.root) };
  }

  it("gives upper triangular factors of H and of its inverse", () => {
    const n = 70;
    const h = gram(n, 200, 3);
    const mean = Array.from({ length: n }, (_, i) => h[i * n + i]!).reduce((a, b) => a + b, 0) / n;
    const { inverse, root, factor } = factors(h, n, 0.01);
    assertEquals([factor.damping, factor.dead], [0.01, []]);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) {
        if (j < i) assertEquals([inverse[i * n + j], root[i * n + j]], [0, 0]);
        let product = 0;
        let identity = 0;
        for (let k = 0; k < n; k++) {
          product += root[i * n + k]! * root[j * n + k]!;
          identity += inverse[i * n + k]! * root[k * n + j]!;
        }
        assert(Math.abs(product - h[i * n + j]! - (i === j ? 0.01 * mean : 0)) < 2e-7, `${i}, ${j}`);
        assert(Math.abs(identity - (i === j ? 1 : 0)) < 1e-5, `${i}, ${j}`);
      }
    }
  });

  it("raises the damping until a matrix of low rank has a factor, and says so", () => {
    const n = 48;
    const { factor, root } = factors(gram(n, 6, 1), n, 0);
    assert(factor.damping > 0 && factor.damping <= 0.01);
    assert(root.every(Number.isFinite));
  });

  it("names dead inputs and leaves them apart from the others", () => {
    const n = 20;
    const h = gram(n, 60, 9);
    for (const dead of [4, 19]) for (let i = 0; i < n; i++) h[dead * n + i] = h[i * n + dead] = 0;
    const { factor, inverse } = factors(h, n, 0.01);
    assertEquals(factor.dead, [4, 19]);
    for (let j = 5; j < n; j++) assertEquals(inverse[4 * n + j], 0);
    assert(inverse[4 * n + 4]! > 0 && Number.isFinite(inverse[4 * n + 4]!));
  });

  it("refuses what is not finite", () => {
    const h = gram(8, 20, 1);
    h[2 * 8 + 2] = Number.NaN;
    assertStringIncludes(assertThrows(() => factors(h, 8, 0.01), Error).message, "o_proj: received NaN for input 2");
    const skewed = gram(8, 20, 1);
    skewed[3 * 8 + 5] = skewed[5 * 8 + 3] = Number.NaN;
    assertStringIncludes(assertThrows(() => factors(skewed, 8, 0.01), Error).message, "failed with damping");
  });
});
