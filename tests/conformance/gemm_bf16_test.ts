/** apiq_gemm with factors rounded to bfloat16: against VDPBF16PS step by step, to the bit, and against float64. */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { COMPUTE_BF16 } from "../../ffi/mod.ts";
import { bf16Sum, toBf16 } from "./bf16_reference.ts";
import { layouts, Problem, type Shape } from "./gemm_problem.ts";
import { assertSameBits, Bench, isas, onEveryIsa, Random } from "./harness.ts";

class Bf16Problem extends Problem {
  constructor(shape: Shape, seed?: number) {
    super({ ...shape, compute: COMPUTE_BF16 }, seed);
  }

  /** What the op must give to the bit, with alpha 1 and beta 0. */
  exactly(): Float32Array {
    const { m, n, k, transposeA, transposeB } = this.shape;
    const [aRow, aCol] = transposeA ? [1, this.lda] : [this.lda, 1];
    const [bRow, bCol] = transposeB ? [1, this.ldb] : [this.ldb, 1];
    const [a, b] = [toBf16(this.a), toBf16(this.b)];
    const c = new Float32Array(this.c);
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        c[i * this.ldc + j] = bf16Sum(
          k,
          (p) => a[i * aRow + p * aCol]!,
          (p) => b[p * bRow + j * bCol]!,
        );
      }
    }
    return c;
  }
}

/** NaN and where they are must agree; their bits need not. */
function withoutPayloads(values: Float32Array): Float32Array {
  return values.map((value) => (Number.isNaN(value) ? Number.NaN : value));
}

function checkBits(problem: Bf16Problem): void {
  const c = onEveryIsa((bench) => withoutPayloads(problem.run(bench)));
  assertSameBits(c, withoutPayloads(problem.exactly()), problem.name);
}

describe("gemm in bfloat16", () => {
  it("equals VDPBF16PS step by step over ragged shapes in every layout, with strides", () => {
    const sizes = [
      [1, 1, 1],
      [1, 100, 37],
      [50, 1, 37],
      [2, 3, 501],
      [5, 49, 64],
      [7, 16, 9],
      [8, 48, 8],
      [9, 47, 385],
      [33, 97, 31],
      [70, 130, 3],
    ] as const;
    for (const [transposeA, transposeB] of layouts) {
      sizes.forEach(([m, n, k], i) => {
        checkBits(new Bf16Problem({ m, n, k, transposeA, transposeB, gaps: [i % 4, (i + 1) % 5, (i + 2) % 3] }, i));
      });
    }
  });

  it("equals it for every number of rows, columns and terms around a register tile", () => {
    for (const [transposeA, transposeB] of layouts) {
      for (let i = 1; i <= 18; i++)
        checkBits(new Bf16Problem({ m: i, n: 3 * i + 1, k: 11 + i, transposeA, transposeB }, i));
    }
  });

  it("equals it where sums come close to the subnormal numbers, whatever factors are subnormal", () => {
    const random = new Random(7);
    // Magnitudes 2^e; products of two of around 2^-63 are around the least normal number, 2^-126.
    const tiny = (values: Float32Array, least: number, most: number): void => {
      for (const i of values.keys()) values[i] = random.normal() * 2 ** (least + random.integer(most - least + 1));
    };
    for (let seed = 0; seed < 6; seed++) {
      const near = new Bf16Problem({ m: 16, n: 48, k: 40 + seed }, seed);
      tiny(near.a, -66, -60);
      tiny(near.b, -66, -60);
      checkBits(near);
      const subnormal = new Bf16Problem({ m: 9, n: 31, k: 40 + seed, transposeB: true }, seed);
      tiny(subnormal.a, -149, -124);
      tiny(subnormal.b, -4, 4);
      checkBits(subnormal);
    }
    // 2^-126, then about 2^-149 to 2^-153 less: rounding alone decides what is subnormal.
    const edge = new Bf16Problem({ m: 32, n: 48, k: 2, transposeB: true }, 3);
    for (const i of edge.a.keys()) edge.a[i] = i % 2 === 1 ? 2 ** -63 : -(2 ** -75) * (1 + random.integer(3) / 128);
    for (const i of edge.b.keys()) edge.b[i] = i % 2 === 1 ? 2 ** -63 : 2 ** -(74 + random.integer(5));
    checkBits(edge);
    const results = new Set(edge.exactly());
    assertEquals(results, new Set([0, 2 ** -126]), "the edge is not reached");
  });

  it("keeps subnormal results of alpha and beta, which are float32 arithmetic", () => {
    const [m, n] = [3, 50];
    const c = onEveryIsa((bench) => {
      const args = new Bf16Problem({ m, n, k: 2, alpha: 2 ** -100, beta: 1 }).args(bench);
      args.a.buffer.upload(new Float32Array(m * 2).fill(2 ** -30));
      args.b.buffer.upload(new Float32Array(n * 2).fill(1));
      args.c.buffer.upload(new Float32Array(m * n).fill(2 ** -140));
      bench.context.gemm(args);
      return bench.read(args.c, m * n);
    });
    assertEquals(c, new Float32Array(m * n).fill(2 ** -129 + 2 ** -140));
  });

  it("passes NaN and infinities on, and rounds what is above the largest bfloat16 to infinity", () => {
    const special = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 3.4e38, -3.4e38, 0, -0];
    for (const k of [1, 8, 33]) {
      const problem = new Bf16Problem({ m: 20, n: 70, k, transposeB: k === 8 }, k);
      special.forEach((value, i) => {
        problem.a[(2 * i * k + i) % problem.a.length] = value;
        problem.b[(5 * i * k + 3 * i) % problem.b.length] = value;
      });
      checkBits(problem);
      assert(problem.exactly().some(Number.isNaN) && problem.exactly().some(Number.isFinite));
    }
  });

  /**
   * A factor x becomes x (1 + d), |d| <= 2^-9, half of the distance of two bfloat16 around 1. So a product is off by at most
   * 2^-8 + 2^-18 of itself, a chain of k + 2 roundings by 2^-24 of the sum of magnitudes each, and alpha and beta by three more.
   */
  it("is as close to float64 as rounding the factors allows, with alpha and beta", () => {
    for (const [transposeA, transposeB] of layouts) {
      const shape = { m: 33, n: 97, k: 387, transposeA, transposeB, alpha: -0.7, beta: 0.3 };
      const problem = new Bf16Problem(shape, 5);
      const sizes = new Bf16Problem({ ...shape, alpha: 0.7 }, 5);
      for (const values of [sizes.a, sizes.b, sizes.c]) for (const i of values.keys()) values[i] = Math.abs(values[i]!);
      const [c, expected, magnitudes] = [
        onEveryIsa((bench) => problem.run(bench)),
        problem.expected(),
        sizes.expected(),
      ];
      let worst = 0;
      for (const i of c.keys()) {
        const share = Math.abs(c[i]! - expected[i]!) / magnitudes[i]!;
        assert(
          share <= 2 ** -8 + 2 ** -18 + (shape.k + 5) * 2 ** -24,
          `${problem.name}: element ${i} is off by ${share}`,
        );
        worst = Math.max(worst, share);
      }
      assert(worst > 2 ** -14, "the factors were not rounded");
    }
  });

  it("sums in an order that depends on k alone: parts of c are the same bits, on any number of threads", () => {
    const whole = new Bf16Problem({ m: 100, n: 150, k: 701, transposeB: true }, 3);
    for (const isa of isas) {
      using bench = new Bench(isa);
      const c = whole.run(bench);
      for (const threads of [2, 3]) {
        using many = new Bench(isa, threads);
        assertSameBits(whole.run(many), c, `${isa}, ${threads} threads`);
      }
      const args = whole.args(bench);
      const part = bench.room(50 * 99);
      const [a, b] = [args.a.buffer.at(13 * whole.lda * 4), args.b.buffer.at(7 * whole.ldb * 4)];
      bench.context.gemm({ ...args, a, b, c: part, m: 50, n: 99, ldc: 99 });
      const expected = new Float32Array(50 * 99);
      for (let i = 0; i < 50; i++) expected.set(c.subarray((13 + i) * 150 + 7, (13 + i) * 150 + 106), i * 99);
      assertSameBits(bench.read(part, 50 * 99), expected, `${isa}: a part`);
    }
  });
});
