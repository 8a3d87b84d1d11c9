#pragma once

#include "weight.h"

namespace apiq {

struct LinearPlan {
  struct Part {
    WeightPlan weight;
    const float* bias;  // [out_features] or null
    float* y;           // [rows, out_features]
  };
  const float* x;  // [rows, in_features]
  uint32_t rows;
  uint32_t in_features;
  uint32_t activations;  // APIQ_ACTIVATIONS_*
  uint32_t n_parts;
  Part parts[APIQ_MAX_PARTS];
};

LinearPlan plan(ContextBase& context, const apiq_linear_args& args);

}  // namespace apiq
