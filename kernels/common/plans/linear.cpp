#include "linear.h"

namespace apiq {
namespace {

uint64_t weight_bytes(const WeightPlan& weight) {
  if (weight.packed()) return packed_bytes(weight);
  return uint64_t{weight.out_features} * weight.in_features * (weight.dtype == APIQ_F32 ? sizeof(float) : sizeof(uint16_t));
}

uint64_t y_bytes(const LinearPlan& plan, uint32_t part) { return uint64_t{plan.rows} * plan.parts[part].weight.out_features * sizeof(float); }

// All parts run at once: no output may be another part's input or output.
void require_outputs_apart(const LinearPlan& plan) {
  for (uint32_t i = 0; i < plan.n_parts; i++) {
    const float* const y = plan.parts[i].y;
    const uint64_t bytes = y_bytes(plan, i);
    require_apart(y, bytes, plan.x, uint64_t{plan.rows} * plan.in_features * sizeof(float), "parts.y and x");
    for (uint32_t j = 0; j < plan.n_parts; j++) {
      const LinearPlan::Part& other = plan.parts[j];
      require_apart(y, bytes, other.weight.data, weight_bytes(other.weight), "parts.y and parts.weight");
      if (other.bias != nullptr) require_apart(y, bytes, other.bias, uint64_t{other.weight.out_features} * sizeof(float), "parts.y and parts.bias");
      if (j < i) require_apart(y, bytes, other.y, y_bytes(plan, j), "parts.y of two parts");
    }
  }
}

}  // namespace

LinearPlan plan(ContextBase& context, const apiq_linear_args& args) {
  require_positive(args.rows, "rows");
  require_positive(args.in_features, "in_features");
  APIQ_REQUIRE(args.activations <= APIQ_ACTIVATIONS_F32, "activations: received %u, expected APIQ_ACTIVATIONS_INT8 or APIQ_ACTIVATIONS_F32",
               args.activations);
  APIQ_REQUIRE(args.n_parts >= 1 && args.n_parts <= APIQ_MAX_PARTS, "n_parts: received %u, expected 1 to %u", args.n_parts,
               static_cast<uint32_t>(APIQ_MAX_PARTS));
  LinearPlan plan{};
  plan.x = context.in<float>(args.x, uint64_t{args.rows} * args.in_features, "x");
  plan.rows = args.rows;
  plan.in_features = args.in_features;
  plan.activations = args.activations;
  plan.n_parts = args.n_parts;
  uint32_t group = 0;
  for (uint32_t i = 0; i < args.n_parts; i++) {
    const apiq_linear_part& part = args.parts[i];
    const WeightPlan weight = readable_weight(context, part.weight, "parts.weight");
    APIQ_REQUIRE(weight.in_features == args.in_features, "parts.weight.in_features: received %u, expected the input's %u",
                 weight.in_features, args.in_features);
    if (weight.affine()) {
      APIQ_REQUIRE(group == 0 || group == weight.group, "parts.weight.group: received %u, expected %u as in the parts before it",
                   weight.group, group);
      group = weight.group;
    }
    const uint64_t y_count = checked_mul(args.rows, weight.out_features, "parts.y");
    plan.parts[i] = {weight, context.in_optional<float>(part.bias, weight.out_features, "parts.bias"), context.out<float>(part.y, y_count, "parts.y")};
  }
  require_outputs_apart(plan);
  return plan;
}

}  // namespace apiq
