#include <algorithm>
#include <vector>

#include "../../common/plans/backward.h"
#include "../core/context.h"
#include "../isa/training_kernels.h"

namespace apiq::cpu {
namespace {

// Blocks of rows have sums of their own, in double precision, which a second phase adds up in order: the result does not depend on
// the threads.
class RmsNormWeightBackward final : public Op {
 public:
  RmsNormWeightBackward(const RmsNormWeightBackwardPlan& plan, Isa isa)
      : plan_(plan),
        kernels_(training_kernels(isa)),
        blocks_((uint64_t{plan.rows} + block - 1) / block),
        width_((uint64_t{plan.cols} + 15) / 16 * 16),
        sums_(blocks_ * width_) {}

  uint32_t phases() const override { return 2; }
  uint64_t items(uint32_t phase) const override { return phase == 0 ? blocks_ : 1; }

  void run(uint32_t phase, uint64_t begin, uint64_t end, Worker&) override {
    if (phase == 1) {
      add_up();
      return;
    }
    for (uint64_t item = begin; item < end; item++) {
      const uint64_t first = item * block;
      const uint32_t rows = static_cast<uint32_t>(std::min(block, plan_.rows - first));
      double* sums = sums_.data() + item * width_;
      std::fill_n(sums, width_, 0.0);
      const uint64_t at = first * plan_.cols;
      kernels_.rms_norm_weight_backward(plan_.x + at, plan_.dy + at, sums, rows, plan_.cols, plan_.eps);
    }
  }

 private:
  static constexpr uint64_t block = 256;  // rows

  void add_up() {
    for (uint32_t c = 0; c < plan_.cols; c++) {
      double total = plan_.accumulate ? static_cast<double>(plan_.dweight[c]) : 0.0;
      for (uint64_t of_block = 0; of_block < blocks_; of_block++) total += sums_[of_block * width_ + c];
      plan_.dweight[c] = static_cast<float>(total);
    }
  }

  const RmsNormWeightBackwardPlan plan_;
  const TrainingKernels& kernels_;
  const uint64_t blocks_;
  const uint64_t width_;
  std::vector<double> sums_;  // [blocks, width]
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_rms_norm_weight_backward(uint64_t context, const apiq_rms_norm_weight_backward_args* args) {
  return apiq::cpu::submit<apiq::cpu::RmsNormWeightBackward>(context, args);
}
