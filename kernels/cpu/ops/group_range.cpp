#include "../../common/plans/quantizer.h"
#include "../core/context.h"
#include "../isa/training_kernels.h"
#include "elementwise_items.h"

namespace apiq::cpu {
namespace {

class GroupRange final : public Op {
 public:
  GroupRange(const GroupRangePlan& plan, Isa isa)
      : plan_(plan), kernels_(training_kernels(isa)), per_item_(rows_per_item(plan.group)) {}

  uint64_t items(uint32_t) const override { return (plan_.groups + per_item_ - 1) / per_item_; }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker&) override {
    const uint64_t first = begin * per_item_;
    const uint64_t groups = std::min(end * per_item_, plan_.groups) - first;
    const float* w = plan_.w + first * plan_.group;
    kernels_.group_range(w, plan_.low + first, plan_.high + first, groups, plan_.group, plan_.include_zero);
  }

 private:
  const GroupRangePlan plan_;
  const TrainingKernels& kernels_;
  const uint64_t per_item_;  // groups
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_group_range(uint64_t context, const apiq_group_range_args* args) {
  return apiq::cpu::submit<apiq::cpu::GroupRange>(context, args);
}
