#pragma once

#include "checks.h"

namespace apiq {

// c = alpha op(a) op(b) + beta c. A matrix's element (i, j) is at [i * row_stride + j * column_stride]; one of the two is 1.
struct GemmPlan {
  struct Matrix {
    const float* data;
    uint64_t row_stride;
    uint64_t column_stride;
  };

  Matrix a;  // op(a): [m, k]
  Matrix b;  // op(b): [k, n]
  float* c;  // [m, n], rows ldc elements apart
  uint32_t m;
  uint32_t n;
  uint32_t k;
  uint32_t ldc;
  float alpha;
  float beta;
  uint32_t compute;  // APIQ_COMPUTE_*
};

// Elements from the first to the last of a stored matrix; 32-bit factors cannot overflow 64 bits.
inline uint64_t stored_count(uint64_t rows, uint64_t cols, uint32_t ld, const char* name) {
  APIQ_REQUIRE(ld >= cols, "%s: received %u, expected at least the %" PRIu64 " columns stored", name, ld, cols);
  return (rows - 1) * ld + cols;
}

inline GemmPlan plan(ContextBase& context, const apiq_gemm_args& args) {
  require_positive(args.m, "m");
  require_positive(args.n, "n");
  require_positive(args.k, "k");
  APIQ_REQUIRE(args.transpose_a <= 1, "transpose_a: received %u, expected 0 or 1", args.transpose_a);
  APIQ_REQUIRE(args.transpose_b <= 1, "transpose_b: received %u, expected 0 or 1", args.transpose_b);
  APIQ_REQUIRE(args.compute <= APIQ_COMPUTE_BF16, "compute: received %u, expected an APIQ_COMPUTE_*", args.compute);
  require_zero(args.reserved, "reserved");
  require_finite(args.alpha, "alpha");
  require_finite(args.beta, "beta");
  const bool ta = args.transpose_a != 0;
  const bool tb = args.transpose_b != 0;
  const uint64_t a_count = stored_count(ta ? args.k : args.m, ta ? args.m : args.k, args.lda, "lda");
  const uint64_t b_count = stored_count(tb ? args.n : args.k, tb ? args.k : args.n, args.ldb, "ldb");
  const uint64_t c_count = stored_count(args.m, args.n, args.ldc, "ldc");
  const GemmPlan plan{{context.in<float>(args.a, a_count, "a"), ta ? 1u : args.lda, ta ? args.lda : 1u},
                      {context.in<float>(args.b, b_count, "b"), tb ? 1u : args.ldb, tb ? args.ldb : 1u},
                      context.out<float>(args.c, c_count, "c"),
                      args.m,
                      args.n,
                      args.k,
                      args.ldc,
                      args.alpha,
                      args.beta,
                      args.compute};
  require_apart(plan.c, c_count * sizeof(float), plan.a.data, a_count * sizeof(float), "c and a");
  require_apart(plan.c, c_count * sizeof(float), plan.b.data, b_count * sizeof(float), "c and b");
  return plan;
}

}  // namespace apiq
