// Plans of the affine quantizer: group_range, clip_range, fake_quantize, and the backward of the last two.
#pragma once

#include "checks.h"

namespace apiq {

// How many groups of `group` columns a matrix has, after checking that they fit.
inline uint64_t count_groups(uint32_t out_features, uint32_t in_features, uint32_t group) {
  require_positive(out_features, "out_features");
  require_positive(in_features, "in_features");
  APIQ_REQUIRE(group > 0 && group % 8 == 0, "group: received %u, expected a multiple of 8", group);
  APIQ_REQUIRE(in_features % group == 0, "group: received %u, expected a divisor of in_features = %u", group, in_features);
  return uint64_t{out_features} * (in_features / group);
}

inline void require_bits(uint32_t bits) {
  APIQ_REQUIRE(bits >= 1 && bits <= 8, "bits: received %u, expected 1 to 8", bits);
}

struct GroupRangePlan {
  const float* w;  // [groups, group]
  float* low;      // [groups]
  float* high;     // [groups]
  uint64_t groups;
  uint32_t group;
  bool include_zero;
};

inline GroupRangePlan plan(ContextBase& context, const apiq_group_range_args& args) {
  const uint64_t groups = count_groups(args.out_features, args.in_features, args.group);
  require_flag(args.include_zero, "include_zero");
  const uint64_t count = groups * args.group;
  const GroupRangePlan plan{context.in<float>(args.w, count, "w"),
                            context.out<float>(args.low, groups, "low"),
                            context.out<float>(args.high, groups, "high"),
                            groups,
                            args.group,
                            args.include_zero == 1};
  const uint64_t bytes = groups * sizeof(float);
  require_apart(plan.low, bytes, plan.w, count * sizeof(float), "low and w");
  require_apart(plan.high, bytes, plan.w, count * sizeof(float), "high and w");
  require_apart(plan.low, bytes, plan.high, bytes, "low and high");
  return plan;
}

struct ClipRangePlan {
  const float* low;          // [count]
  const float* high;         // [count]
  const float* low_factor;   // [count], or both null
  const float* high_factor;  // [count]
  float* scale;              // [count]
  float* zero;               // [count]
  uint64_t count;
  uint32_t bits;
  bool round_scale;
};

inline ClipRangePlan plan(ContextBase& context, const apiq_clip_range_args& args) {
  require_positive(args.count, "count");
  require_bits(args.bits);
  require_flag(args.round_scale, "round_scale");
  const ClipRangePlan plan{context.in<float>(args.low, args.count, "low"),
                           context.in<float>(args.high, args.count, "high"),
                           context.in_optional<float>(args.low_factor, args.count, "low_factor"),
                           context.in_optional<float>(args.high_factor, args.count, "high_factor"),
                           context.out<float>(args.scale, args.count, "scale"),
                           context.out<float>(args.zero, args.count, "zero"),
                           args.count,
                           args.bits,
                           args.round_scale == 1};
  APIQ_REQUIRE((plan.low_factor == nullptr) == (plan.high_factor == nullptr),
               "low_factor and high_factor: received one, expected both or none");
  const uint64_t bytes = args.count * sizeof(float);
  const float* inputs[] = {plan.low, plan.high, plan.low_factor, plan.high_factor};
  for (const float* input : inputs) {
    if (input == nullptr) continue;
    require_apart(plan.scale, bytes, input, bytes, "scale and an input");
    require_apart(plan.zero, bytes, input, bytes, "zero and an input");
  }
  require_apart(plan.scale, bytes, plan.zero, bytes, "scale and zero");
  return plan;
}

struct ClipRangeBackwardPlan {
  const float* low;          // [count]
  const float* high;         // [count]
  const float* low_factor;   // [count]
  const float* high_factor;  // [count]
  const float* dscale;       // [count]
  float* dlow_factor;        // [count]
  float* dhigh_factor;       // [count]
  uint64_t count;
  uint32_t bits;
};

inline ClipRangeBackwardPlan plan(ContextBase& context, const apiq_clip_range_backward_args& args) {
  require_positive(args.count, "count");
  require_bits(args.bits);
  require_zero(args.reserved, "reserved");
  const ClipRangeBackwardPlan plan{context.in<float>(args.low, args.count, "low"),
                                   context.in<float>(args.high, args.count, "high"),
                                   context.in<float>(args.low_factor, args.count, "low_factor"),
                                   context.in<float>(args.high_factor, args.count, "high_factor"),
                                   context.in<float>(args.dscale, args.count, "dscale"),
                                   context.out<float>(args.dlow_factor, args.count, "dlow_factor"),
                                   context.out<float>(args.dhigh_factor, args.count, "dhigh_factor"),
                                   args.count,
                                   args.bits};
  const uint64_t bytes = args.count * sizeof(float);
  const float* inputs[] = {plan.low, plan.high, plan.low_factor, plan.high_factor, plan.dscale};
  for (const float* input : inputs) {
    require_apart(plan.dlow_factor, bytes, input, bytes, "dlow_factor and an input");
    require_apart(plan.dhigh_factor, bytes, input, bytes, "dhigh_factor and an input");
  }
  require_apart(plan.dlow_factor, bytes, plan.dhigh_factor, bytes, "dlow_factor and dhigh_factor");
  return plan;
}

// The matrix and parameters that fake_quantize and its backward read.
struct QuantizerInputs {
  const float* w;      // [groups, group]
  const float* scale;  // [groups]
  const float* zero;   // [groups]
  uint64_t groups;
  uint32_t group;
  uint32_t bits;
  bool clamp_zero;
};

template <class Args>
QuantizerInputs quantizer_inputs(ContextBase& context, const Args& args) {
  const uint64_t groups = count_groups(args.out_features, args.in_features, args.group);
  require_bits(args.bits);
  require_flag(args.clamp_zero, "clamp_zero");
  return {context.in<float>(args.w, groups * args.group, "w"),
          context.in<float>(args.scale, groups, "scale"),
          context.in<float>(args.zero, groups, "zero"),
          groups,
          args.group,
          args.bits,
          args.clamp_zero == 1};
}

struct FakeQuantizePlan {
  QuantizerInputs inputs;
  float* y;    // [groups, group] or null
  uint8_t* q;  // [groups, group] or null
};

inline FakeQuantizePlan plan(ContextBase& context, const apiq_fake_quantize_args& args) {
  const QuantizerInputs inputs = quantizer_inputs(context, args);
  require_zero(args.reserved, "reserved");
  const uint64_t count = inputs.groups * inputs.group;
  const FakeQuantizePlan plan{inputs, context.out_optional<float>(args.y, count, "y"),
                              context.out_optional<uint8_t>(args.q, count, "q")};
  APIQ_REQUIRE(plan.y != nullptr || plan.q != nullptr, "y and q: received neither, expected at least one");
  const uint64_t bytes = count * sizeof(float);
  const uint64_t group_bytes = inputs.groups * sizeof(float);
  if (plan.y != nullptr) {
    require_same_or_apart(plan.y, inputs.w, bytes, "y and w");
    require_apart(plan.y, bytes, inputs.scale, group_bytes, "y and scale");
    require_apart(plan.y, bytes, inputs.zero, group_bytes, "y and zero");
  }
  if (plan.q != nullptr) {
    require_apart(plan.q, count, inputs.w, bytes, "q and w");
    require_apart(plan.q, count, inputs.scale, group_bytes, "q and scale");
    require_apart(plan.q, count, inputs.zero, group_bytes, "q and zero");
    if (plan.y != nullptr) require_apart(plan.q, count, plan.y, bytes, "q and y");
  }
  return plan;
}

struct FakeQuantizeBackwardPlan {
  QuantizerInputs inputs;
  const float* dy;  // [groups, group]
  float* dw;        // [groups, group] or null
  float* dscale;    // [groups]
  float* dzero;     // [groups] or null
  bool edges_inside;
};

inline FakeQuantizeBackwardPlan plan(ContextBase& context, const apiq_fake_quantize_backward_args& args) {
  const QuantizerInputs inputs = quantizer_inputs(context, args);
  require_flag(args.edges_inside, "edges_inside");
  const uint64_t count = inputs.groups * inputs.group;
  const FakeQuantizeBackwardPlan plan{inputs,
                                      context.in<float>(args.dy, count, "dy"),
                                      context.out_optional<float>(args.dw, count, "dw"),
                                      context.out<float>(args.dscale, inputs.groups, "dscale"),
                                      context.out_optional<float>(args.dzero, inputs.groups, "dzero"),
                                      args.edges_inside == 1};
  const uint64_t bytes = count * sizeof(float);
  const uint64_t group_bytes = inputs.groups * sizeof(float);
  const auto require_output = [&](const float* output, uint64_t output_bytes, const char* names) {
    require_apart(output, output_bytes, inputs.w, bytes, names);
    require_apart(output, output_bytes, inputs.scale, group_bytes, names);
    require_apart(output, output_bytes, inputs.zero, group_bytes, names);
  };
  require_output(plan.dscale, group_bytes, "dscale and an input");
  require_apart(plan.dscale, group_bytes, plan.dy, bytes, "dscale and dy");
  if (plan.dw != nullptr) {
    require_output(plan.dw, bytes, "dw and an input");
    require_same_or_apart(plan.dw, plan.dy, bytes, "dw and dy");
    require_apart(plan.dw, bytes, plan.dscale, group_bytes, "dw and dscale");
  }
  if (plan.dzero != nullptr) {
    require_output(plan.dzero, group_bytes, "dzero and an input");
    require_apart(plan.dzero, group_bytes, plan.dy, bytes, "dzero and dy");
    require_apart(plan.dzero, group_bytes, plan.dscale, group_bytes, "dzero and dscale");
    if (plan.dw != nullptr) require_apart(plan.dzero, group_bytes, plan.dw, bytes, "dzero and dw");
  }
  return plan;
}

}  // namespace apiq
