#pragma once

#include "checks.h"

namespace apiq {

struct GptqQuantizePlan {
  float* w;                     // [out_features, in_features]
  const float* inverse_factor;  // [in_features, in_features]
  float* scale;                 // [out_features, in_features / group]
  float* zero;                  // [out_features, in_features / group]
  uint8_t* q;                   // [out_features, in_features]
  uint32_t out_features;
  uint32_t in_features;
  uint32_t group;
  uint32_t bits;
};

inline GptqQuantizePlan plan(ContextBase& context, const apiq_gptq_quantize_args& args) {
  require_positive(args.out_features, "out_features");
  require_positive(args.in_features, "in_features");
  APIQ_REQUIRE(args.bits == 2 || args.bits == 3 || args.bits == 4 || args.bits == 8, "bits: received %u, expected 2, 3, 4 or 8",
               args.bits);
  APIQ_REQUIRE(args.group > 0 && args.group % 8 == 0 && args.in_features % args.group == 0,
               "group: received %u, expected a multiple of 8 that divides in_features %u", args.group, args.in_features);
  const uint64_t count = uint64_t{args.out_features} * args.in_features;
  const uint64_t groups = count / args.group;
  const uint64_t factor = uint64_t{args.in_features} * args.in_features;
  const GptqQuantizePlan plan{context.out<float>(args.w, count, "w"),
                              context.in<float>(args.inverse_factor, factor, "inverse_factor"),
                              context.out<float>(args.scale, groups, "scale"),
                              context.out<float>(args.zero, groups, "zero"),
                              context.out<uint8_t>(args.q, count, "q"),
                              args.out_features,
                              args.in_features,
                              args.group,
                              args.bits};
  const struct {
    const void* data;
    uint64_t bytes;
    const char* name;
  } tensors[] = {{plan.w, count * sizeof(float), "w"},
                 {plan.inverse_factor, factor * sizeof(float), "inverse_factor"},
                 {plan.scale, groups * sizeof(float), "scale"},
                 {plan.zero, groups * sizeof(float), "zero"},
                 {plan.q, count, "q"}};
  for (const auto& a : tensors) {
    for (const auto* b = tensors; b != &a; b++) {
      char names[64];
      std::snprintf(names, sizeof names, "%s and %s", b->name, a.name);
      require_apart(b->data, b->bytes, a.data, a.bytes, names);
    }
  }
  return plan;
}

}  // namespace apiq
