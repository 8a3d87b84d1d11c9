// Plans of silu_mul and add: two inputs and an output of `count` float32 elements.
#pragma once

#include "checks.h"

namespace apiq {

struct SiluMulPlan {
  const float* gate;
  const float* up;
  float* y;
  uint64_t count;
};

inline SiluMulPlan plan(ContextBase& context, const apiq_silu_mul_args& args) {
  require_positive(args.count, "count");
  const SiluMulPlan plan{context.in<float>(args.gate, args.count, "gate"), context.in<float>(args.up, args.count, "up"),
                         context.out<float>(args.y, args.count, "y"), args.count};
  require_same_or_apart(plan.y, plan.gate, args.count * sizeof(float), "y and gate");
  require_same_or_apart(plan.y, plan.up, args.count * sizeof(float), "y and up");
  return plan;
}

struct AddPlan {
  const float* a;
  const float* b;
  float* y;
  uint64_t count;
};

inline AddPlan plan(ContextBase& context, const apiq_add_args& args) {
  require_positive(args.count, "count");
  const AddPlan plan{context.in<float>(args.a, args.count, "a"), context.in<float>(args.b, args.count, "b"),
                     context.out<float>(args.y, args.count, "y"), args.count};
  require_same_or_apart(plan.y, plan.a, args.count * sizeof(float), "y and a");
  require_same_or_apart(plan.y, plan.b, args.count * sizeof(float), "y and b");
  return plan;
}

}  // namespace apiq
