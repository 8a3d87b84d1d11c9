#include "weight.h"

namespace apiq {
namespace {

// Far above any model's, and small enough that no product of two sizes and a few constants overflows 64 bits.
constexpr uint32_t max_features = 1u << 27;
constexpr uint64_t packed_alignment = 64;

void require_features(uint32_t value, const char* name, const char* field) {
  APIQ_REQUIRE(value >= 1 && value <= max_features, "%s.%s: received %u, expected 1 to %u", name, field, value, max_features);
}

void require_dense(const apiq_weight& weight, const char* name) {
  APIQ_REQUIRE(weight.dtype <= APIQ_BF16, "%s.dtype: received %u, expected APIQ_F32, APIQ_F16 or APIQ_BF16", name, weight.dtype);
  APIQ_REQUIRE(weight.bits == 0 && weight.group == 0 && weight.zero == 0,
               "%s: received bits %u, group %u, zero %u for a dense matrix, expected 0", name, weight.bits, weight.group, weight.zero);
}

void require_absent(const apiq_ref& ref, const char* name, const char* what) {
  APIQ_REQUIRE(ref.buffer == 0 && ref.offset == 0, "%s: received a tensor for %s, expected none", name, what);
}

void require_packed(const apiq_weight& weight, const char* name) {
  APIQ_REQUIRE(weight.dtype == 0, "%s.dtype: received %u for a packed matrix, expected 0", name, weight.dtype);
  APIQ_REQUIRE(weight.group == 32 || weight.group == 64 || weight.group == 128, "%s.group: received %u, expected 32, 64 or 128", name,
               weight.group);
  APIQ_REQUIRE(weight.in_features % weight.group == 0, "%s.in_features: received %u, expected a multiple of the group, %u", name,
               weight.in_features, weight.group);
}

void require_affine(const apiq_weight& weight, const char* name) {
  APIQ_REQUIRE(weight.bits == 2 || weight.bits == 3 || weight.bits == 4 || weight.bits == 8,
               "%s.bits: received %u, expected 2, 3, 4 or 8", name, weight.bits);
  APIQ_REQUIRE(weight.zero <= APIQ_ZERO_FLOAT, "%s.zero: received %u, expected APIQ_ZERO_INTEGER or APIQ_ZERO_FLOAT", name, weight.zero);
  require_packed(weight, name);
}

void require_lut(const apiq_weight& weight, const char* name) {
  APIQ_REQUIRE(weight.bits >= 2 && weight.bits <= 4, "%s.bits: received %u for a lut matrix, expected 2, 3 or 4", name,
               weight.bits);
  APIQ_REQUIRE(weight.zero == 0, "%s.zero: received %u for a lut matrix, expected 0", name, weight.zero);
  require_packed(weight, name);
}

}  // namespace

WeightPlan weight_shape(const apiq_weight& weight, const char* name) {
  require_features(weight.out_features, name, "out_features");
  require_features(weight.in_features, name, "in_features");
  APIQ_REQUIRE(weight.reserved == 0, "%s.reserved: received %u, expected 0", name, weight.reserved);
  switch (weight.kind) {
    case APIQ_WEIGHT_DENSE: require_dense(weight, name); break;
    case APIQ_WEIGHT_AFFINE: require_affine(weight, name); break;
    case APIQ_WEIGHT_LUT: require_lut(weight, name); break;
    default:
      fail(APIQ_INVALID_ARGUMENT, "%s.kind: received %u, expected APIQ_WEIGHT_DENSE, APIQ_WEIGHT_AFFINE or APIQ_WEIGHT_LUT", name,
           weight.kind);
  }
  return {nullptr, weight.kind, weight.dtype, weight.bits, weight.group, weight.zero, weight.out_features, weight.in_features};
}

WeightPlan readable_weight(ContextBase& context, const apiq_weight& weight, const char* name) {
  WeightPlan plan = weight_shape(weight, name);
  const uint64_t elements = uint64_t{plan.out_features} * plan.in_features;
  if (plan.packed()) {
    plan.data = context.in<std::byte>(weight.data, packed_bytes(plan), name, packed_alignment);
  } else if (plan.dtype == APIQ_F32) {
    plan.data = reinterpret_cast<const std::byte*>(context.in<float>(weight.data, elements, name));
  } else {
    plan.data = reinterpret_cast<const std::byte*>(context.in<uint16_t>(weight.data, elements, name));
  }
  return plan;
}

RepackPlan plan(ContextBase& context, const apiq_weight_repack_args& args) {
  RepackPlan plan{};
  plan.weight = weight_shape(args.weight, "weight");
  const WeightPlan& weight = plan.weight;
  APIQ_REQUIRE(weight.packed(), "weight.kind: received a dense matrix, expected APIQ_WEIGHT_AFFINE or APIQ_WEIGHT_LUT");
  APIQ_REQUIRE(args.format <= APIQ_GPTQ_V2, "format: received %u, expected APIQ_GPTQ_V1 or APIQ_GPTQ_V2", args.format);
  APIQ_REQUIRE(args.release_source <= 1, "release_source: received %u, expected 0 or 1", args.release_source);
  const uint64_t groups = weight.in_features / weight.group;
  const uint64_t qweight_words = uint64_t{weight.in_features} / 32 * weight.bits * weight.out_features;
  const uint64_t zero_words = groups * ((uint64_t{weight.out_features} * weight.bits + 31) / 32);
  const uint64_t group_values = groups * weight.out_features;
  const uint64_t target_bytes = packed_bytes(weight);
  plan.target = context.out<std::byte>(args.weight.data, target_bytes, "weight.data", packed_alignment);
  plan.qweight = context.in<uint32_t>(args.qweight, qweight_words, "qweight");
  plan.qweight_bytes = qweight_words * sizeof(uint32_t);
  plan.scales = context.in<uint16_t>(args.scales, group_values, "scales");
  plan.scales_bytes = group_values * sizeof(uint16_t);
  if (weight.lut()) {
    APIQ_REQUIRE(args.format == APIQ_GPTQ_V2, "format: received %u for a lut matrix, expected APIQ_GPTQ_V2", args.format);
    require_absent(args.zeros, "zeros", "a lut matrix");
    plan.table = context.in<float>(args.table, uint64_t{1} << weight.bits, "table");
    require_apart(plan.target, target_bytes, plan.table, sizeof(float) << weight.bits, "weight.data and table");
  } else if (weight.zero == APIQ_ZERO_FLOAT) {
    plan.zeros = context.in<uint16_t>(args.zeros, group_values, "zeros");
    plan.zeros_bytes = group_values * sizeof(uint16_t);
  } else {
    plan.zeros = context.in<uint32_t>(args.zeros, zero_words, "zeros");
    plan.zeros_bytes = zero_words * sizeof(uint32_t);
  }
  require_apart(plan.target, target_bytes, plan.qweight, plan.qweight_bytes, "weight.data and qweight");
  if (weight.affine()) {
    require_absent(args.table, "table", "an affine matrix");
    require_apart(plan.target, target_bytes, plan.zeros, plan.zeros_bytes, "weight.data and zeros");
  }
  require_apart(plan.target, target_bytes, plan.scales, plan.scales_bytes, "weight.data and scales");
  plan.format = args.format;
  plan.release_source = args.release_source == 1;
  return plan;
}

DequantizePlan plan(ContextBase& context, const apiq_weight_dequantize_args& args) {
  DequantizePlan plan{};
  plan.weight = readable_weight(context, args.weight, "weight");
  APIQ_REQUIRE(plan.weight.packed(), "weight.kind: received a dense matrix, expected APIQ_WEIGHT_AFFINE or APIQ_WEIGHT_LUT");
  require_positive(args.n_rows, "n_rows");
  if (args.first_row > plan.weight.out_features || args.n_rows > plan.weight.out_features - args.first_row) {
    fail(APIQ_OUT_OF_RANGE, "first_row, n_rows: rows %u to %" PRIu64 " reach past the matrix's %u", args.first_row,
         uint64_t{args.first_row} + args.n_rows, plan.weight.out_features);
  }
  const uint64_t count = uint64_t{args.n_rows} * plan.weight.in_features;
  plan.y = context.out<float>(args.y, count, "y");
  require_apart(plan.y, count * sizeof(float), plan.weight.data, packed_bytes(plan.weight), "y and weight");
  plan.first_row = args.first_row;
  plan.n_rows = args.n_rows;
  return plan;
}

}  // namespace apiq
