#include "../../common/plans/backward.h"
#include "../core/context.h"
#include "../isa/training_kernels.h"
#include "elementwise_items.h"

namespace apiq::cpu {
namespace {

class SiluMulBackward final : public Op {
 public:
  SiluMulBackward(const SiluMulBackwardPlan& plan, Isa isa) : plan_(plan), kernels_(training_kernels(isa)) {}

  uint64_t items(uint32_t) const override { return elementwise_items(plan_.count); }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker&) override {
    each_range(begin, end, plan_.count, [&](uint64_t first, uint64_t n) {
      kernels_.silu_mul_backward(plan_.gate + first, plan_.up + first, plan_.dy + first, plan_.dgate + first, plan_.dup + first, n);
    });
  }

 private:
  const SiluMulBackwardPlan plan_;
  const TrainingKernels& kernels_;
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_silu_mul_backward(uint64_t context, const apiq_silu_mul_backward_args* args) {
  return apiq::cpu::submit<apiq::cpu::SiluMulBackward>(context, args);
}
