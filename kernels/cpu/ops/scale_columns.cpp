#include "../../common/plans/columns.h"
#include "../core/context.h"
#include "../isa/training_kernels.h"
#include "elementwise_items.h"

namespace apiq::cpu {
namespace {

class ScaleColumns final : public Op {
 public:
  ScaleColumns(const ScaleColumnsPlan& plan, Isa isa)
      : plan_(plan), kernels_(training_kernels(isa)), rows_(rows_per_item(plan.cols)) {}

  uint64_t items(uint32_t) const override { return (plan_.rows + rows_ - 1) / rows_; }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker&) override {
    for (uint64_t row = begin * rows_; row < std::min<uint64_t>(end * rows_, plan_.rows); row++) {
      kernels_.multiply(plan_.x + row * plan_.cols, plan_.scale, plan_.y + row * plan_.cols, plan_.cols);
    }
  }

 private:
  const ScaleColumnsPlan plan_;
  const TrainingKernels& kernels_;
  const uint64_t rows_;  // of an item
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_scale_columns(uint64_t context, const apiq_scale_columns_args* args) {
  return apiq::cpu::submit<apiq::cpu::ScaleColumns>(context, args);
}
