#include "../../common/plans/losses.h"
#include "../core/context.h"
#include "../isa/training_kernels.h"
#include "partial_sums.h"

namespace apiq::cpu {
namespace {

class MseLoss final : public Op {
 public:
  MseLoss(const MseLossPlan& plan, Isa isa)
      : plan_(plan),
        kernels_(training_kernels(isa)),
        factor_(static_cast<float>(2.0 * static_cast<double>(plan.scale) / static_cast<double>(plan.count))),
        sums_(plan.count) {}

  uint32_t phases() const override { return 2; }
  uint64_t items(uint32_t phase) const override { return sums_.items(phase); }

  void run(uint32_t phase, uint64_t begin, uint64_t end, Worker&) override {
    if (phase == 1) {
      plan_.loss[0] += static_cast<double>(plan_.scale) * (sums_.total() / static_cast<double>(plan_.count));
      return;
    }
    sums_.each(begin, end, [&](uint64_t first, uint64_t n) {
      float* grad = plan_.grad == nullptr ? nullptr : plan_.grad + first;
      return kernels_.mse(plan_.prediction + first, plan_.target + first, grad, factor_, plan_.accumulate, n);
    });
  }

 private:
  const MseLossPlan plan_;
  const TrainingKernels& kernels_;
  const float factor_;  // of the gradient
  PartialSums sums_;
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_mse_loss(uint64_t context, const apiq_mse_loss_args* args) {
  return apiq::cpu::submit<apiq::cpu::MseLoss>(context, args);
}
