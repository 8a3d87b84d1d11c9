/** Products of dense float32 matrices that lie packed in memory, the common case of apiq_gemm. */
import { COMPUTE_BF16, COMPUTE_F32, type Context, type Ref } from "../../ffi/mod.ts";

/** How a product takes its factors: as they are, or rounded to bfloat16. Sums are float32; see apiq_gemm. */
export const COMPUTES = ["f32", "bf16"] as const;
export type Compute = (typeof COMPUTES)[number];

export interface Matmul {
  /** op(a) [m, k]; stored [k, m] with transposeA. */
  readonly a: Ref;
  /** op(b) [k, n]; stored [n, k] with transposeB. */
  readonly b: Ref;
  /** [m, n] */
  readonly c: Ref;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
  /** Elements between stored rows of a and of c, where they are columns of something wider. */
  readonly lda?: number;
  readonly ldc?: number;
  /** 1 unless given. */
  readonly alpha?: number;
  /** Adds to c instead of overwriting it. */
  readonly add?: boolean;
}

/** c = alpha op(a) op(b), or c += with `add`. */
export function matmul(context: Context, args: Matmul, compute: Compute = "f32"): void {
  const { m, n, k, transposeA = false, transposeB = false } = args;
  context.gemm({
    a: args.a,
    b: args.b,
    c: args.c,
    m,
    n,
    k,
    transposeA: transposeA ? 1 : 0,
    transposeB: transposeB ? 1 : 0,
    lda: args.lda ?? (transposeA ? m : k),
    ldb: transposeB ? k : n,
    ldc: args.ldc ?? n,
    alpha: args.alpha ?? 1,
    beta: args.add ? 1 : 0,
    compute: compute === "bf16" ? COMPUTE_BF16 : COMPUTE_F32,
  });
}
