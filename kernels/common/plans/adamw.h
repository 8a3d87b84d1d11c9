#pragma once

#include <initializer_list>

#include "checks.h"

namespace apiq {

// What one step does.
struct AdamwSettings {
  float lr;
  float beta1;
  float beta2;
  float eps;
  float weight_decay;
  float grad_scale;
  uint32_t step;
};

struct AdamwPlan {
  float* parameter;   // [count]
  const float* grad;  // [count]
  float* m;           // [count]
  float* v;           // [count]
  uint64_t count;
  AdamwSettings settings;
};

// Elements that share a scale.
constexpr uint64_t moment_block = 256;

struct Adamw8bitPlan {
  float* parameter;   // [count]
  const float* grad;  // [count]
  uint8_t* m;         // [count]
  uint8_t* v;         // [count]
  float* m_scale;     // [ceil(count / moment_block)]
  float* v_scale;     // [ceil(count / moment_block)]
  uint64_t count;
  AdamwSettings settings;
};

inline void require_rate(float value, const char* name) {
  APIQ_REQUIRE(value >= 0 && value < 1, "%s: received %g, expected a number of at least 0, less than 1", name,
               static_cast<double>(value));
}

template <class Args>
AdamwSettings adamw_settings(const Args& args) {
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
  return {args.lr, args.beta1, args.beta2, args.eps, args.weight_decay, args.grad_scale, args.step};
}

struct AdamwTensor {
  const void* data;
  uint64_t bytes;
  const char* name;
};

inline void require_tensors_apart(std::initializer_list<AdamwTensor> tensors) {
  for (const AdamwTensor* a = tensors.begin(); a != tensors.end(); a++) {
    for (const AdamwTensor* b = a + 1; b != tensors.end(); b++) {
      require_apart(a->data, a->bytes, b->data, b->bytes, (std::string(a->name) + " and " + b->name).c_str());
    }
  }
}

inline AdamwPlan plan(ContextBase& context, const apiq_adamw_args& args) {
  const AdamwSettings settings = adamw_settings(args);
  const AdamwPlan plan{context.out<float>(args.parameter, args.count, "parameter"),
                       context.in<float>(args.grad, args.count, "grad"),
                       context.out<float>(args.m, args.count, "m"),
                       context.out<float>(args.v, args.count, "v"),
                       args.count,
                       settings};
  const uint64_t bytes = args.count * sizeof(float);
  require_tensors_apart(
      {{plan.parameter, bytes, "parameter"}, {plan.grad, bytes, "grad"}, {plan.m, bytes, "m"}, {plan.v, bytes, "v"}});
  return plan;
}

inline Adamw8bitPlan plan(ContextBase& context, const apiq_adamw_8bit_args& args) {
  const AdamwSettings settings = adamw_settings(args);
  const uint64_t blocks = (args.count - 1) / moment_block + 1;
  const Adamw8bitPlan plan{context.out<float>(args.parameter, args.count, "parameter"),
                           context.in<float>(args.grad, args.count, "grad"),
                           context.out<uint8_t>(args.m, args.count, "m"),
                           context.out<uint8_t>(args.v, args.count, "v"),
                           context.out<float>(args.m_scale, blocks, "m_scale"),
                           context.out<float>(args.v_scale, blocks, "v_scale"),
                           args.count,
                           settings};
  const uint64_t bytes = args.count * sizeof(float);
  const uint64_t scale_bytes = blocks * sizeof(float);
  require_tensors_apart({{plan.parameter, bytes, "parameter"},
                         {plan.grad, bytes, "grad"},
                         {plan.m, args.count, "m"},
                         {plan.v, args.count, "v"},
                         {plan.m_scale, scale_bytes, "m_scale"},
                         {plan.v_scale, scale_bytes, "v_scale"}});
  return plan;
}

}  // namespace apiq
