// Plans of the block's backward ops, and of dropout.
#pragma once

#include "checks.h"

namespace apiq {

struct RmsNormBackwardPlan {
  const float* x;       // [rows, cols]
  const float* weight;  // [cols]
  const float* dy;      // [rows, cols]
  float* dx;            // [rows, cols]
  uint32_t rows;
  uint32_t cols;
  float eps;
  bool accumulate;
};

inline RmsNormBackwardPlan plan(ContextBase& context, const apiq_rms_norm_backward_args& args) {
  require_positive(args.rows, "rows");
  require_positive(args.cols, "cols");
  require_flag(args.accumulate, "accumulate");
  APIQ_REQUIRE(std::isfinite(args.eps) && args.eps >= 0, "eps: received %g, expected a finite number of at least 0",
               static_cast<double>(args.eps));
  const uint64_t count = uint64_t{args.rows} * args.cols;
  const RmsNormBackwardPlan plan{context.in<float>(args.x, count, "x"),
                                 context.in<float>(args.weight, args.cols, "weight"),
                                 context.in<float>(args.dy, count, "dy"),
                                 context.out<float>(args.dx, count, "dx"),
                                 args.rows,
                                 args.cols,
                                 args.eps,
                                 args.accumulate == 1};
  const uint64_t bytes = count * sizeof(float);
  require_apart(plan.dx, bytes, plan.x, bytes, "dx and x");
  require_apart(plan.dx, bytes, plan.weight, args.cols * sizeof(float), "dx and weight");
  if (plan.accumulate) require_apart(plan.dx, bytes, plan.dy, bytes, "dx and dy");
  else require_same_or_apart(plan.dx, plan.dy, bytes, "dx and dy");
  return plan;
}

struct RmsNormWeightBackwardPlan {
  const float* x;   // [rows, cols]
  const float* dy;  // [rows, cols]
  float* dweight;   // [cols]
  uint32_t rows;
  uint32_t cols;
  float eps;
  bool accumulate;
};

inline RmsNormWeightBackwardPlan plan(ContextBase& context, const apiq_rms_norm_weight_backward_args& args) {
  require_positive(args.rows, "rows");
  require_positive(args.cols, "cols");
  require_flag(args.accumulate, "accumulate");
  APIQ_REQUIRE(std::isfinite(args.eps) && args.eps >= 0, "eps: received %g, expected a finite number of at least 0",
               static_cast<double>(args.eps));
  const uint64_t count = uint64_t{args.rows} * args.cols;
  const RmsNormWeightBackwardPlan plan{context.in<float>(args.x, count, "x"),
                                       context.in<float>(args.dy, count, "dy"),
                                       context.out<float>(args.dweight, args.cols, "dweight"),
                                       args.rows,
                                       args.cols,
                                       args.eps,
                                       args.accumulate == 1};
  require_apart(plan.dweight, args.cols * sizeof(float), plan.x, count * sizeof(float), "dweight and x");
  require_apart(plan.dweight, args.cols * sizeof(float), plan.dy, count * sizeof(float), "dweight and dy");
  return plan;
}

struct DropoutPlan {
  const float* x;  // [count]
  float* y;        // [count]
  uint64_t count;
  uint64_t seed;
  uint64_t stream;
  float probability;
  bool accumulate;
};

inline DropoutPlan plan(ContextBase& context, const apiq_dropout_args& args) {
  require_positive(args.count, "count");
  require_flag(args.accumulate, "accumulate");
  APIQ_REQUIRE(args.probability >= 0 && args.probability < 1, "probability: received %g, expected at least 0, less than 1",
               static_cast<double>(args.probability));
  const DropoutPlan plan{context.in<float>(args.x, args.count, "x"), context.out<float>(args.y, args.count, "y"), args.count,
                         args.seed, args.stream, args.probability, args.accumulate == 1};
  const uint64_t bytes = args.count * sizeof(float);
  if (plan.accumulate) require_apart(plan.y, bytes, plan.x, bytes, "y and x");
  else require_same_or_apart(plan.y, plan.x, bytes, "y and x");
  return plan;
}

struct SiluMulBackwardPlan {
  const float* gate;
  const float* up;
  const float* dy;
  float* dgate;
  float* dup;
  uint64_t count;
};

inline SiluMulBackwardPlan plan(ContextBase& context, const apiq_silu_mul_backward_args& args) {
  require_positive(args.count, "count");
  const SiluMulBackwardPlan plan{context.in<float>(args.gate, args.count, "gate"),
                                 context.in<float>(args.up, args.count, "up"),
                                 context.in<float>(args.dy, args.count, "dy"),
                                 context.out<float>(args.dgate, args.count, "dgate"),
                                 context.out<float>(args.dup, args.count, "dup"),
                                 args.count};
  const uint64_t bytes = args.count * sizeof(float);
  require_same_or_apart(plan.dgate, plan.gate, bytes, "dgate and gate");
  require_same_or_apart(plan.dgate, plan.dy, bytes, "dgate and dy");
  require_apart(plan.dgate, bytes, plan.up, bytes, "dgate and up");
  require_same_or_apart(plan.dup, plan.up, bytes, "dup and up");
  require_apart(plan.dup, bytes, plan.gate, bytes, "dup and gate");
  require_apart(plan.dup, bytes, plan.dy, bytes, "dup and dy");
  require_apart(plan.dgate, bytes, plan.dup, bytes, "dgate and dup");
  return plan;
}

}  // namespace apiq
