#include <cmath>

#include "../../common/plans/columns.h"
#include "../core/context.h"
#include "../isa/training_kernels.h"
#include "elementwise_items.h"

namespace apiq::cpu {
namespace {

class RowNorms final : public Op {
 public:
  RowNorms(const RowNormsPlan& plan, Isa isa) : plan_(plan), kernels_(training_kernels(isa)), rows_(rows_per_item(plan.cols)) {}

  uint64_t items(uint32_t) const override { return (plan_.rows + rows_ - 1) / rows_; }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker&) override {
    for (uint64_t row = begin * rows_; row < std::min<uint64_t>(end * rows_, plan_.rows); row++) {
      plan_.y[row] = static_cast<float>(std::sqrt(kernels_.sum_squares(plan_.x + row * plan_.cols, plan_.cols)));
    }
  }

 private:
  const RowNormsPlan plan_;
  const TrainingKernels& kernels_;
  const uint64_t rows_;  // of an item
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_row_norms(uint64_t context, const apiq_row_norms_args* args) {
  return apiq::cpu::submit<apiq::cpu::RowNorms>(context, args);
}
