// apiq_rms_norm: a block per row.
#include "../../common/plans/rms_norm.h"

#include "../launch.h"

namespace apiq::cuda {
namespace {

constexpr uint32_t norm_warps = 8;
constexpr uint32_t norm_threads = norm_warps * warp_threads;

struct RmsNormArgs {
  Global<const float> x;
  Global<const float> weight;
  Global<float> y;
  uint32_t cols;
  uint32_t x_stride;
  uint32_t y_stride;
  float eps;
};

// The sum of squares: a thread takes every 256th column, then the lanes meet in a butterfly, then the warps in order.
APIQ_KERNEL(norm_threads) rms_norm_kernel(RmsNormArgs a) {
  APIQ_SHARED(float, warp_sums, norm_warps);
  const uint64_t x_row = uint64_t{block_index_x()} * a.x_stride;
  const uint64_t y_row = uint64_t{block_index_x()} * a.y_stride;
  float squares = 0.0f;
  for (uint32_t i = thread_index(); i < a.cols; i += norm_threads) {
    const float value = a.x.load(x_row + i);
    squares = fma(value, value, squares);
  }
  squares = warp_sum(squares);
  if (thread_index() % warp_threads == 0) warp_sums.store(thread_index() / warp_threads, squares);
  sync_block();
  float total = 0.0f;
  for (uint32_t warp = 0; warp < norm_warps; warp++) total += warp_sums.load(warp);
  const float scale = 1.0f / square_root(total / static_cast<float>(a.cols) + a.eps);
  for (uint32_t i = thread_index(); i < a.cols; i += norm_threads) a.y.store(y_row + i, a.x.load(x_row + i) * scale * a.weight.load(i));
}

void run_rms_norm(Context& context, const RmsNormPlan& plan) {
  RmsNormArgs args;
  args.x = {plan.x, uint64_t{plan.rows - 1} * plan.x_stride + plan.cols};
  args.weight = {plan.weight, plan.cols};
  args.y = {plan.y, uint64_t{plan.rows - 1} * plan.y_stride + plan.cols};
  args.cols = plan.cols;
  args.x_stride = plan.x_stride;
  args.y_stride = plan.y_stride;
  args.eps = plan.eps;
  context.stream().launch(rms_norm_kernel, line_of_blocks(plan.rows, norm_threads), args);
}

}  // namespace
}  // namespace apiq::cuda

extern "C" apiq_status apiq_rms_norm(uint64_t context, const apiq_rms_norm_args* args) {
  return apiq::cuda::submit(context, args, &apiq::cuda::run_rms_norm);
}
