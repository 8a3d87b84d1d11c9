/** Random matrices for apiq_gemm, and their product in float64. */
import { COMPUTE_F32, type Ref } from "../../ffi/mod.ts";
import type { GemmArgs } from "../../ffi/types.ts";
import { type Bench, Random } from "./harness.ts";

export type Args = GemmArgs & Record<"a" | "b" | "c", Ref>;

export interface Shape {
  m: number;
  n: number;
  k: number;
  transposeA?: boolean;
  transposeB?: boolean;
  /** Elements between the end of a stored row and the next. */
  gaps?: readonly [a: number, b: number, c: number];
  alpha?: number;
  beta?: number;
  /** COMPUTE_* */
  compute?: number;
}

const GAP = 12345.5;

/** c = alpha op(a) op(b) + beta c with random matrices; what lies between their rows is GAP (in a and b: NaN). */
export class Problem {
  readonly shape: Required<Shape>;
  readonly a: Float32Array;
  readonly b: Float32Array;
  readonly c: Float32Array;
  readonly lda: number;
  readonly ldb: number;
  readonly ldc: number;

  constructor(shape: Shape, seed = 1) {
    this.shape = {
      transposeA: false,
      transposeB: false,
      gaps: [0, 0, 0],
      alpha: 1,
      beta: 0,
      compute: COMPUTE_F32,
      ...shape,
    };
    const { m, n, k, transposeA, transposeB, gaps, beta } = this.shape;
    const random = new Random(seed);
    const stored = (rows: number, cols: number, gap: number, between: number) => {
      const values = random.normals((rows - 1) * (cols + gap) + cols);
      values.forEach((_, i) => {
        if (i % (cols + gap) >= cols) values[i] = between;
      });
      return values;
    };
    const [aRows, aCols] = transposeA ? [k, m] : [m, k];
    const [bRows, bCols] = transposeB ? [n, k] : [k, n];
    this.lda = aCols + gaps[0];
    this.ldb = bCols + gaps[1];
    this.ldc = n + gaps[2];
    this.a = stored(aRows, aCols, gaps[0], Number.NaN);
    this.b = stored(bRows, bCols, gaps[1], Number.NaN);
    this.c = stored(m, n, gaps[2], GAP);
    // With beta 0, c is not read.
    if (beta === 0) for (const [i] of this.c.entries()) if (i % this.ldc < n) this.c[i] = Number.NaN;
  }

  args(bench: Bench): Args {
    const { m, n, k, transposeA, transposeB, alpha, beta, compute } = this.shape;
    return {
      a: bench.f32(this.a),
      b: bench.f32(this.b),
      c: bench.f32(this.c),
      m,
      n,
      k,
      transposeA: Number(transposeA),
      transposeB: Number(transposeB),
      lda: this.lda,
      ldb: this.ldb,
      ldc: this.ldc,
      alpha,
      beta,
      compute,
    };
  }

  run(bench: Bench): Float32Array {
    const args = this.args(bench);
    bench.context.gemm(args);
    return bench.read(args.c, this.c.length);
  }

  expected(): Float64Array {
    const { m, n, k, transposeA, transposeB, alpha, beta } = this.shape;
    const [aRow, aCol] = transposeA ? [1, this.lda] : [this.lda, 1];
    const [bRow, bCol] = transposeB ? [1, this.ldb] : [this.ldb, 1];
    const expected = Float64Array.from(this.c);
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let p = 0; p < k; p++) sum += this.a[i * aRow + p * aCol]! * this.b[p * bRow + j * bCol]!;
        const at = i * this.ldc + j;
        expected[at] = Math.fround(alpha) * sum + (beta === 0 ? 0 : Math.fround(beta) * this.c[at]!);
      }
    }
    return expected;
  }

  /** A chain of k products of size 1 makes k rounding errors of half an ulp of sums that grow to sqrt(k). */
  get bound(): number {
    const { k, alpha, beta } = this.shape;
    return 3e-7 * (Math.abs(alpha) * (k + 16) + Math.abs(beta) * 16);
  }

  get name(): string {
    const { m, n, k, transposeA, transposeB } = this.shape;
    return `${m} x ${n} x ${k} ${transposeA ? "T" : "N"}${transposeB ? "T" : "N"}`;
  }
}

export const layouts = [
  [false, false],
  [false, true],
  [true, false],
  [true, true],
] as const;
