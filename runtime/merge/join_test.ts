import { readFileSync } from "node:fs";
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { symmetricEigen } from "../quantize/linalg/symmetric_eigen.ts";
import { uniformNumbers } from "../quantize/random.ts";
import { joinRanks, type LoraFactors, truncateRanks } from "./join.ts";
import { distance, sumOf } from "./test_adapters.ts";

function factors(out: number, into: number, rank: number, scale: number, seed: number): LoraFactors {
  const next = uniformNumbers(seed);
  const values = (count: number) => Float32Array.from({ length: count }, next);
  return { a: values(rank * into), b: values(out * rank), rank, scale };
}

/** scale B A in float64. */
function dense({ a, b, rank, scale }: LoraFactors): Float64Array {
  const [out, into] = [b.length / rank, a.length / rank];
  return Float64Array.from({ length: out * into }, (_, i) => {
    let sum = 0;
    for (let k = 0; k < rank; k++) sum += b[Math.floor(i / into) * rank + k]! * a[k * into + (i % into)]!;
    return scale * sum;
  });
}

/** The nearest matrix of a rank, from the eigenvectors of x x^T in float64; and all singular values squared. */
function nearest(x: Float64Array, out: number, rank: number): { matrix: Float64Array; squares: Float64Array } {
  const into = x.length / out;
  const gram = new Float64Array(out * out);
  for (let i = 0; i < out; i++) {
    for (let j = 0; j < out; j++) {
      for (let c = 0; c < into; c++) gram[i * out + j]! += x[i * into + c]! * x[j * into + c]!;
    }
  }
  const { values, vectors } = symmetricEigen(gram, out);
  const matrix = new Float64Array(x.length);
  for (let k = 0; k < rank; k++) {
    for (let c = 0; c < into; c++) {
      let dot = 0;
      for (let r = 0; r < out; r++) dot += vectors[k * out + r]! * x[r * into + c]!;
      for (let r = 0; r < out; r++) matrix[r * into + c]! += vectors[k * out + r]! * dot;
    }
  }
  return { matrix, squares: values };
}

describe("joinRanks", () => {
  it("gives the sum of terms of any rank, scale and sign", () => {
    for (const [out, into] of [
      [20, 33],
      [7, 96],
      [64, 5],
    ] as const) {
      const terms = [factors(out, into, 3, -0.5, 1), factors(out, into, 8, 1.7, 2), factors(out, into, 1, 1e-3, 3)];
      const joined = joinRanks(terms);
      assertEquals([joined.rank, joined.scale, joined.a.length, joined.b.length], [12, 0.5, 12 * into, out * 12]);
      const off = distance(dense(joined), sumOf(...terms.map(dense)));
      assert(off < 1e-7, `${out} x ${into}: off by ${off}`);
    }
  });

  it("leaves matrices as they are where scales are of one size", () => {
    const terms = [factors(6, 10, 2, 0.3, 4), factors(6, 10, 3, 0.3, 5)];
    const { a, b, rank } = joinRanks(terms);
    assertEquals([...a], [...terms[0]!.a, ...terms[1]!.a]);
    for (let row = 0; row < 6; row++) {
      const side = terms.flatMap((term) => [...term.b.subarray(row * term.rank, (row + 1) * term.rank)]);
      assertEquals([...b.subarray(row * rank, (row + 1) * rank)], side);
    }
  });
});

describe("truncateRanks", () => {
  it("gives the nearest matrix of its rank, and says how much that is", () => {
    for (const [out, into, rank] of [
      [24, 40, 4],
      [40, 24, 1],
      [16, 16, 7],
    ] as const) {
      const terms = [factors(out, into, 6, 0.7, 6), factors(out, into, 5, -1.3, 7)];
      const whole = sumOf(...terms.map(dense));
      const { matrix, squares } = nearest(whole, out, rank);
      const cut = truncateRanks(terms, rank);
      assertEquals([cut.rank, cut.scale, cut.a.length, cut.b.length], [rank, 1, rank * into, out * rank]);
      const off = distance(dense(cut), matrix);
      assert(off < 1e-6, `${out} x ${into}: off by ${off}`);
      const sum = (values: Float64Array): number => values.reduce((total, value) => total + value, 0);
      assertAlmostEquals(cut.squares / sum(squares), 1, 1e-9);
      assertAlmostEquals(cut.kept / sum(squares.slice(0, rank)), 1, 1e-9);
    }
  });

  it("shares singular values evenly between A and B", () => {
    const { a, b } = truncateRanks([factors(12, 30, 5, 2, 8)], 3);
    for (let k = 0; k < 3; k++) {
      const rowSquares = a.subarray(k * 30, (k + 1) * 30).reduce((sum, x) => sum + x * x, 0);
      const columnSquares = b.filter((_, i) => i % 3 === k).reduce((sum, x) => sum + x * x, 0);
      assertAlmostEquals(rowSquares / columnSquares, 1, 1e-5);
    }
  });

  it("takes terms that depend on each other, cancel, or have more ranks than the matrix", () => {
    const one = factors(10, 14, 4, 1, 9);
    const twice = truncateRanks([one, { ...one, scale: 0.5 }], 4);
    assert(distance(dense(twice), dense({ ...one, scale: 1.5 })) < 1e-6);
    const gone = truncateRanks([one, { ...one, scale: -1 }], 4);
    assert([...gone.a, ...gone.b].every((value) => Math.abs(value) < 1e-3));
    const wide = [factors(5, 9, 6, 1, 10), factors(5, 9, 6, 1, 11)];
    assert(distance(dense(truncateRanks(wide, 7)), sumOf(...wide.map(dense))) < 1e-6);
  });
});

describe("peft", () => {
  /** One linear's adapters and what peft makes of them; `origin` says how. */
  const { adapters, ...expected } = JSON.parse(readFileSync(new URL("peft_case.json", import.meta.url), "utf8")) as {
    readonly adapters: readonly { rank: number; scale: number; weight: number; a: number[]; b: number[] }[];
    /** Products of the joined adapters, [out, in]. */
    readonly cat: number[];
    readonly svd: number[];
  };
  const terms = adapters.map(({ a, b, rank, scale, weight }): LoraFactors => {
    return { a: Float32Array.from(a), b: Float32Array.from(b), rank, scale: weight * scale };
  });

  it("joins ranks to the same product", () => {
    const off = distance(dense(joinRanks(terms)), Float64Array.from(expected.cat));
    assert(off < 5e-7, `off by ${off}`);
  });

  it("cuts to the same product", () => {
    const off = distance(dense(truncateRanks(terms, 2)), Float64Array.from(expected.svd));
    assert(off < 5e-7, `off by ${off}`);
  });
});
