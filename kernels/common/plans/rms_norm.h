#pragma once

#include "checks.h"

namespace apiq {

struct RmsNormPlan {
  const float* x;       // [rows, cols], rows x_stride elements apart
  const float* weight;  // [cols]
  float* y;             // [rows, cols], rows y_stride elements apart
  uint32_t rows;
  uint32_t cols;
  uint32_t x_stride;
  uint32_t y_stride;
  float eps;
};

inline RmsNormPlan plan(ContextBase& context, const apiq_rms_norm_args& args) {
  require_positive(args.rows, "rows");
  require_positive(args.cols, "cols");
  require_zero(args.reserved, "reserved");
  APIQ_REQUIRE(args.x_stride >= args.cols, "x_stride: received %u, expected at least cols = %u", args.x_stride, args.cols);
  APIQ_REQUIRE(args.y_stride >= args.cols, "y_stride: received %u, expected at least cols = %u", args.y_stride, args.cols);
  APIQ_REQUIRE(std::isfinite(args.eps) && args.eps >= 0, "eps: received %g, expected a finite number of at least 0",
               static_cast<double>(args.eps));
  // 32-bit factors: these cannot overflow 64 bits.
  const uint64_t x_count = uint64_t{args.rows - 1} * args.x_stride + args.cols;
  const uint64_t y_count = uint64_t{args.rows - 1} * args.y_stride + args.cols;
  const RmsNormPlan plan{context.in<float>(args.x, x_count, "x"),
                         context.in<float>(args.weight, args.cols, "weight"),
                         context.out<float>(args.y, y_count, "y"),
                         args.rows,
                         args.cols,
                         args.x_stride,
                         args.y_stride,
                         args.eps};
  if (plan.y != plan.x || args.x_stride != args.y_stride) {
    require_apart(plan.y, y_count * sizeof(float), plan.x, x_count * sizeof(float), "y and x");
  }
  require_apart(plan.y, y_count * sizeof(float), plan.weight, args.cols * sizeof(float), "y and weight");
  return plan;
}

}  // namespace apiq
