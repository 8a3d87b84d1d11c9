#include "../core/context.h"
#include "adamw_factors.h"
#include "elementwise_items.h"

namespace apiq::cpu {
namespace {

class Adamw final : public Op {
 public:
  Adamw(const AdamwPlan& plan, Isa isa) : plan_(plan), factors_(factors_of(plan.settings)), kernels_(training_kernels(isa)) {}

  uint64_t items(uint32_t) const override { return elementwise_items(plan_.count); }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker&) override {
    each_range(begin, end, plan_.count, [&](uint64_t first, uint64_t n) {
      kernels_.adamw(plan_.parameter + first, plan_.grad + first, plan_.m + first, plan_.v + first, n, factors_);
    });
  }

 private:
  const AdamwPlan plan_;
  const AdamwFactors factors_;
  const TrainingKernels& kernels_;
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_adamw(uint64_t context, const apiq_adamw_args* args) {
  return apiq::cpu::submit<apiq::cpu::Adamw>(context, args);
}
