// apiq_linear: packed affine and dense matrices, float32 activations. Both settings of `activations` mean float32 here: int8 is
// an approximation that pays on a CPU.
#include "../../common/plans/linear.h"

#include "../launch.h"
#include "dense.cuh"
#include "gemv.cuh"

namespace apiq::cuda {
namespace {

// How many blocks a matrix should fill at least. A constant and not the device's: the order of sums must not depend on the card.
constexpr uint32_t wanted_blocks = 512;

struct Stretches {
  uint32_t count;
  uint32_t stages_each;
};

Stretches stretches_of(const AffineLayout& layout) {
  const uint32_t stages = ceil_div(layout.column_tiles, gemv_warps);
  const uint32_t wanted = ceil_div(wanted_blocks, layout.row_tiles);
  const uint32_t stages_each = ceil_div(stages, wanted < stages ? wanted : stages);
  return {ceil_div(stages, stages_each), stages_each};
}

template <uint32_t bits>
void launch_gemv(device::Stream& stream, const device::Grid& grid, const GemvArgs& args) {
  if (args.rows == 1) return stream.launch(gemv_kernel<bits, 1>, grid, args);
  if (args.rows == 2) return stream.launch(gemv_kernel<bits, 2>, grid, args);
  if (args.rows <= 4) return stream.launch(gemv_kernel<bits, 4>, grid, args);
  stream.launch(gemv_kernel<bits, 8>, grid, args);
}

// Rows in batches of 8: right for any number, fast for few.
void run_affine(Context& context, const LinearPlan& plan, const LinearPlan::Part& part) {
  const AffineLayout layout = affine_layout(part.weight);
  const Stretches stretches = stretches_of(layout);
  const uint64_t out = layout.out_features;
  for (uint32_t first = 0; first < plan.rows; first += gemv_max_rows) {
    GemvArgs args;
    args.rows = plan.rows - first < gemv_max_rows ? plan.rows - first : gemv_max_rows;
    args.weight = tile_reader(part.weight);
    args.x = {plan.x + uint64_t{first} * plan.in_features, uint64_t{args.rows} * plan.in_features};
    args.bias = {part.bias, out};
    args.y = {part.y + first * out, args.rows * out};
    args.stages_per_stretch = stretches.stages_each;
    const uint64_t partials = stretches.count * args.rows * out;
    if (stretches.count > 1) args.partials = {context.scratch(stretches.count * gemv_max_rows * out), partials};
    const device::Grid grid{layout.row_tiles, stretches.count, gemv_threads};
    switch (layout.bits) {
      case 2: launch_gemv<2>(context.stream(), grid, args); break;
      case 3: launch_gemv<3>(context.stream(), grid, args); break;
      case 4: launch_gemv<4>(context.stream(), grid, args); break;
      case 8: launch_gemv<8>(context.stream(), grid, args); break;
    }
    if (stretches.count == 1) continue;
    const GatherArgs gather{{context.scratch(partials), partials}, args.bias, args.y, args.rows, layout.out_features, stretches.count};
    context.stream().launch(gather_stretches_kernel, {ceil_div(layout.out_features, gather_threads), args.rows, gather_threads}, gather);
  }
}

template <class Element>
void launch_dense(Context& context, const LinearPlan& plan, const LinearPlan::Part& part) {
  const WeightPlan& weight = part.weight;
  DenseArgs<Element> args;
  args.weight = {reinterpret_cast<const decltype(Element::stored)*>(weight.data), uint64_t{weight.out_features} * weight.in_features};
  args.x = {plan.x, uint64_t{plan.rows} * plan.in_features};
  args.bias = {part.bias, weight.out_features};
  args.y = {part.y, uint64_t{plan.rows} * weight.out_features};
  args.out_features = weight.out_features;
  args.in_features = weight.in_features;
  args.blocks_per_row = ceil_div(weight.out_features, dense_warps);
  context.stream().launch(dense_kernel<Element>, line_of_blocks(uint64_t{plan.rows} * args.blocks_per_row, dense_threads), args);
}

void run_linear(Context& context, const LinearPlan& plan) {
  for (uint32_t i = 0; i < plan.n_parts; i++) {
    const LinearPlan::Part& part = plan.parts[i];
    if (part.weight.affine()) {
      run_affine(context, plan, part);
    } else {
      switch (part.weight.dtype) {
        case APIQ_F32: launch_dense<Float32>(context, plan, part); break;
        case APIQ_F16: launch_dense<Float16>(context, plan, part); break;
        case APIQ_BF16: launch_dense<Bfloat16>(context, plan, part); break;
      }
    }
  }
}

}  // namespace
}  // namespace apiq::cuda

extern "C" apiq_status apiq_linear(uint64_t context, const apiq_linear_args* args) {
  return apiq::cuda::submit(context, args, &apiq::cuda::run_linear);
}
