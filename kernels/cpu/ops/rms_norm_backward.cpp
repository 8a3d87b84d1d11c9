#include "../../common/plans/backward.h"
#include "../core/context.h"
#include "../isa/training_kernels.h"
#include "elementwise_items.h"

namespace apiq::cpu {
namespace {

class RmsNormBackward final : public Op {
 public:
  RmsNormBackward(const RmsNormBackwardPlan& plan, Isa isa)
      : plan_(plan), kernels_(training_kernels(isa)), rows_(rows_per_item(plan.cols)) {}

  uint64_t items(uint32_t) const override { return (plan_.rows + rows_ - 1) / rows_; }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker&) override {
    for (uint64_t row = begin * rows_; row < std::min<uint64_t>(end * rows_, plan_.rows); row++) {
      const uint64_t at = row * plan_.cols;
      kernels_.rms_norm_backward(plan_.x + at, plan_.weight, plan_.dy + at, plan_.dx + at, plan_.cols, plan_.eps, plan_.accumulate);
    }
  }

 private:
  const RmsNormBackwardPlan plan_;
  const TrainingKernels& kernels_;
  const uint64_t rows_;  // of an item
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_rms_norm_backward(uint64_t context, const apiq_rms_norm_backward_args* args) {
  return apiq::cpu::submit<apiq::cpu::RmsNormBackward>(context, args);
}
