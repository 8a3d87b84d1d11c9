#include "../../common/plans/columns.h"
#include "../core/context.h"
#include "../isa/training_kernels.h"
#include "elementwise_items.h"

namespace apiq::cpu {
namespace {

class ScaleRows final : public Op {
 public:
  ScaleRows(const ScaleRowsPlan& plan, Isa isa) : plan_(plan), kernels_(training_kernels(isa)), rows_(rows_per_item(plan.cols)) {}

  uint64_t items(uint32_t) const override { return (plan_.rows + rows_ - 1) / rows_; }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker&) override {
    const uint64_t first = begin * rows_;
    const uint64_t rows = std::min<uint64_t>(end * rows_, plan_.rows) - first;
    const uint64_t at = first * plan_.cols;
    kernels_.scale_rows(plan_.x + at, plan_.scale + first, plan_.y + at, rows, plan_.cols);
  }

 private:
  const ScaleRowsPlan plan_;
  const TrainingKernels& kernels_;
  const uint64_t rows_;  // of an item
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_scale_rows(uint64_t context, const apiq_scale_rows_args* args) {
  return apiq::cpu::submit<apiq::cpu::ScaleRows>(context, args);
}
