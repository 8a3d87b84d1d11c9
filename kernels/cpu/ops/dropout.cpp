#include "../../common/plans/backward.h"
#include "../core/context.h"
#include "../isa/training_kernels.h"
#include "elementwise_items.h"

namespace apiq::cpu {
namespace {

class Dropout final : public Op {
 public:
  Dropout(const DropoutPlan& plan, Isa isa)
      : plan_(plan),
        mask_{plan.seed, plan.stream, static_cast<uint32_t>(static_cast<double>(plan.probability) * 0x1p16 + 0.5),
              static_cast<float>(1 / (1 - static_cast<double>(plan.probability)))},
        kernels_(training_kernels(isa)) {}

  uint64_t items(uint32_t) const override { return elementwise_items(plan_.count); }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker&) override {
    each_range(begin, end, plan_.count, [&](uint64_t first, uint64_t n) {
      kernels_.dropout(plan_.x + first, plan_.y + first, first, n, mask_, plan_.accumulate);
    });
  }

 private:
  static_assert(elements_per_item % 128 == 0);

  const DropoutPlan plan_;
  const DropoutMask mask_;
  const TrainingKernels& kernels_;
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_dropout(uint64_t context, const apiq_dropout_args* args) {
  return apiq::cpu::submit<apiq::cpu::Dropout>(context, args);
}
