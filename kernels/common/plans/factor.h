#pragma once

#include "checks.h"

namespace apiq {

struct CholeskyPlan {
  float* a;              // [n, n]
  int32_t* failed_pivot;  // [1]
  uint32_t n;
};

inline CholeskyPlan plan(ContextBase& context, const apiq_cholesky_args& args) {
  require_positive(args.n, "n");
  require_zero(args.reserved, "reserved");
  const uint64_t count = uint64_t{args.n} * args.n;
  const CholeskyPlan plan{context.out<float>(args.a, count, "a"), context.out<int32_t>(args.failed_pivot, 1, "failed_pivot"),
                          args.n};
  require_apart(plan.failed_pivot, sizeof(int32_t), plan.a, count * sizeof(float), "failed_pivot and a");
  return plan;
}

struct TriangularInversePlan {
  const float* l;  // [n, n]
  float* y;        // [n, n]
  uint32_t n;
};

inline TriangularInversePlan plan(ContextBase& context, const apiq_triangular_inverse_args& args) {
  require_positive(args.n, "n");
  require_zero(args.reserved, "reserved");
  const uint64_t count = uint64_t{args.n} * args.n;
  const TriangularInversePlan plan{context.in<float>(args.l, count, "l"), context.out<float>(args.y, count, "y"), args.n};
  require_apart(plan.y, count * sizeof(float), plan.l, count * sizeof(float), "y and l");
  return plan;
}

}  // namespace apiq
