#pragma once

#include "checks.h"

namespace apiq {

struct AdamwPlan {
  float* parameter;   // [count]
  const float* grad;  // [count]
  float* m;           // [count]
  float* v;           // [count]
  uint64_t count;
  float lr;
  float beta1;
  float beta2;
  float eps;
  float weight_decay;
  float grad_scale;
  uint32_t step;
};

inline void require_rate(float value, const char* name) {
  APIQ_REQUIRE(value >= 0 && value < 1, "%s: received %g, expected a number of at least 0, less than 1", name,
               static_cast<double>(value));
}

inline AdamwPlan plan(ContextBase& context, const apiq_adamw_args& args) {
  require_positive(args.count, "count");
  require_positive(args.step, "step");
  require_zero(args.reserved, "reserved");
  require_finite(args.lr, "lr");
  require_rate(args.beta1, "beta1");
  require_rate(args.beta2, "beta2");
  APIQ_REQUIRE(std::isfinite(args.eps) && args.eps >= 0, "eps: received %g, expected a finite number of at least 0",
               static_cast<double>(args.eps));
  require_finite(args.weight_decay, "weight_decay");
  require_finite(args.grad_scale, "grad_scale");
  const AdamwPlan plan{context.out<float>(args.parameter, args.count, "parameter"),
                       context.in<float>(args.grad, args.count, "grad"),
                       context.out<float>(args.m, args.count, "m"),
                       context.out<float>(args.v, args.count, "v"),
                       args.count,
                       args.lr,
                       args.beta1,
                       args.beta2,
                       args.eps,
                       args.weight_decay,
                       args.grad_scale,
                       args.step};
  const uint64_t bytes = args.count * sizeof(float);
  require_apart(plan.parameter, bytes, plan.grad, bytes, "parameter and grad");
  require_apart(plan.parameter, bytes, plan.m, bytes, "parameter and m");
  require_apart(plan.parameter, bytes, plan.v, bytes, "parameter and v");
  require_apart(plan.m, bytes, plan.grad, bytes, "m and grad");
  require_apart(plan.m, bytes, plan.v, bytes, "m and v");
  require_apart(plan.v, bytes, plan.grad, bytes, "v and grad");
  return plan;
}

}  // namespace apiq
