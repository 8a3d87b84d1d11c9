// apiq_weight_*: the packed form of affine matrices.
#include "../launch.h"
#include "../repack.cuh"

namespace apiq {

// Every op that takes a packed matrix asks for its size while its arguments are checked, so this is where a lut matrix is refused.
uint64_t packed_bytes(const WeightPlan& weight) {
  if (weight.lut()) {
    fail(APIQ_UNSUPPORTED, "libapiq_cuda has no kernels for APIQ_WEIGHT_LUT; libapiq_cpu runs it, and `apiq export` makes it dense");
  }
  return cuda::affine_words(cuda::affine_layout(weight)) * sizeof(uint32_t);
}

namespace cuda {
namespace {

void repack(Context& context, const RepackPlan& plan) {
  const WeightPlan& weight = plan.weight;
  const AffineLayout layout = affine_layout(weight);
  const bool float_zero = layout.float_zero != 0;
  RepackArgs args;
  args.qweight = {plan.qweight, plan.qweight_bytes / sizeof(uint32_t)};
  if (float_zero) args.mins = {static_cast<const uint16_t*>(plan.zeros), plan.zeros_bytes / sizeof(uint16_t)};
  if (!float_zero) args.qzeros = {static_cast<const uint32_t*>(plan.zeros), plan.zeros_bytes / sizeof(uint32_t)};
  args.scales = {plan.scales, plan.scales_bytes / sizeof(uint16_t)};
  args.target = {reinterpret_cast<uint32_t*>(plan.target), affine_words(layout)};
  args.layout = layout;
  args.zero_words = static_cast<uint32_t>((uint64_t{weight.out_features} * weight.bits + 31) / 32);
  args.zero_correction = plan.format == APIQ_GPTQ_V1 ? 1 : 0;
  context.immediate().launch(repack_kernel, line_of_blocks(uint64_t{layout.row_tiles} * layout.column_tiles, repack_threads), args);
  context.immediate().synchronize();
}

void dequantize(Context& context, const DequantizePlan& plan) {
  DequantizeArgs args;
  args.weight = tile_reader(plan.weight);
  args.y = {plan.y, uint64_t{plan.n_rows} * plan.weight.in_features};
  args.first_row = plan.first_row;
  args.blocks_per_row = ceil_div(plan.weight.in_features, dequantize_threads);
  context.stream().launch(dequantize_kernel, line_of_blocks(uint64_t{plan.n_rows} * args.blocks_per_row, dequantize_threads), args);
}

}  // namespace
}  // namespace cuda
}  // namespace apiq

extern "C" {

apiq_status apiq_weight_packed_bytes(uint64_t context, const apiq_weight* weight, uint64_t* bytes) {
  return apiq::cuda::enter(context, [&](apiq::cuda::Context&) {
    APIQ_REQUIRE(weight != nullptr && bytes != nullptr, "weight and bytes must not be null");
    const apiq::WeightPlan shape = apiq::weight_shape(*weight, "weight");
    APIQ_REQUIRE(shape.packed(), "weight.kind: received a dense matrix, expected APIQ_WEIGHT_AFFINE or APIQ_WEIGHT_LUT");
    *bytes = apiq::packed_bytes(shape);
  });
}

apiq_status apiq_weight_repack(uint64_t context, const apiq_weight_repack_args* args) {
  return apiq::cuda::submit(context, args, &apiq::cuda::repack);
}

apiq_status apiq_weight_dequantize(uint64_t context, const apiq_weight_dequantize_args* args) {
  return apiq::cuda::submit(context, args, &apiq::cuda::dequantize);
}

}  // extern "C"
