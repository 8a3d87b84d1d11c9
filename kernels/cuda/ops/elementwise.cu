// apiq_silu_mul and apiq_add.
#include "../../common/plans/elementwise.h"

#include "../launch.h"

namespace apiq::cuda {
namespace {

constexpr uint32_t elementwise_threads = 256;

struct ElementwiseArgs {
  Global<const float> a;
  Global<const float> b;
  Global<float> y;  // may be a or b
  uint64_t count;
};

struct SiluMul {
  APIQ_DEVICE static float apply(float gate, float up) { return gate / (1.0f + exponential(-gate)) * up; }
};
struct Add {
  APIQ_DEVICE static float apply(float a, float b) { return a + b; }
};

template <class Function>
APIQ_KERNEL(elementwise_threads) elementwise_kernel(ElementwiseArgs a) {
  const uint64_t i = static_cast<uint64_t>(block_index_x()) * elementwise_threads + thread_index();
  if (i < a.count) a.y.store(i, Function::apply(a.a.load(i), a.b.load(i)));
}

template <class Function>
void run_elementwise(Context& context, const float* a, const float* b, float* y, uint64_t count) {
  const ElementwiseArgs args{{a, count}, {b, count}, {y, count}, count};
  const uint64_t blocks = (count + elementwise_threads - 1) / elementwise_threads;
  context.stream().launch(elementwise_kernel<Function>, line_of_blocks(blocks, elementwise_threads), args);
}

void run_silu_mul(Context& context, const SiluMulPlan& plan) { run_elementwise<SiluMul>(context, plan.gate, plan.up, plan.y, plan.count); }
void run_add(Context& context, const AddPlan& plan) { run_elementwise<Add>(context, plan.a, plan.b, plan.y, plan.count); }

}  // namespace
}  // namespace apiq::cuda

extern "C" apiq_status apiq_silu_mul(uint64_t context, const apiq_silu_mul_args* args) {
  return apiq::cuda::submit(context, args, &apiq::cuda::run_silu_mul);
}

extern "C" apiq_status apiq_add(uint64_t context, const apiq_add_args* args) {
  return apiq::cuda::submit(context, args, &apiq::cuda::run_add);
}
