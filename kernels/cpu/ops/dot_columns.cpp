#include <algorithm>
#include <vector>

#include "../../common/plans/columns.h"
#include "../core/context.h"
#include "../isa/training_kernels.h"

namespace apiq::cpu {
namespace {

// Blocks of rows have sums of their own, in double precision, which a second phase adds up in order: the result does not depend on
// the threads. An item of the first phase is a block's strip of columns, an item of the second a strip.
class DotColumns final : public Op {
 public:
  DotColumns(const DotColumnsPlan& plan, Isa isa)
      : plan_(plan),
        kernels_(training_kernels(isa)),
        strip_(strip_of(plan.cols)),
        strips_((plan.cols + strip_ - 1) / strip_),
        blocks_((uint64_t{plan.rows} + block - 1) / block),
        sums_(blocks_ * strips_ * strip_) {}

  uint32_t phases() const override { return 2; }
  uint64_t items(uint32_t phase) const override { return phase == 0 ? blocks_ * strips_ : strips_; }

  void run(uint32_t phase, uint64_t begin, uint64_t end, Worker&) override {
    for (uint64_t item = begin; item < end; item++) {
      if (phase == 0) sum_block(item / strips_, item % strips_);
      else add_up(item);
    }
  }

 private:
  static constexpr uint64_t block = 256;  // rows

  // A multiple of 16 that makes strips of about one width, at most 1024: their sums and two rows of floats take 16 KiB.
  static uint64_t strip_of(uint64_t cols) {
    const uint64_t strips = (cols + 1023) / 1024;
    return (cols + strips * 16 - 1) / (strips * 16) * 16;
  }

  double* sums(uint64_t of_block, uint64_t of_strip) { return sums_.data() + (of_block * strips_ + of_strip) * strip_; }
  uint64_t width(uint64_t of_strip) const { return std::min(strip_, plan_.cols - of_strip * strip_); }

  void sum_block(uint64_t of_block, uint64_t of_strip) {
    const uint64_t first_row = of_block * block;
    const uint64_t at = first_row * plan_.cols + of_strip * strip_;
    const uint32_t rows = static_cast<uint32_t>(std::min(block, plan_.rows - first_row));
    double* target = sums(of_block, of_strip);
    std::fill_n(target, strip_, 0.0);
    kernels_.dot_columns(plan_.a + at, plan_.b == nullptr ? nullptr : plan_.b + at, target, rows, plan_.cols, width(of_strip));
  }

  void add_up(uint64_t of_strip) {
    float* y = plan_.y + of_strip * strip_;
    for (uint64_t c = 0; c < width(of_strip); c++) {
      double total = plan_.accumulate ? static_cast<double>(y[c]) : 0.0;
      for (uint64_t of_block = 0; of_block < blocks_; of_block++) total += sums(of_block, of_strip)[c];
      y[c] = static_cast<float>(total);
    }
  }

  const DotColumnsPlan plan_;
  const TrainingKernels& kernels_;
  const uint64_t strip_;  // columns of a strip; the last may have fewer
  const uint64_t strips_;
  const uint64_t blocks_;
  std::vector<double> sums_;  // [blocks, strips, strip]
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_dot_columns(uint64_t context, const apiq_dot_columns_args* args) {
  return apiq::cpu::submit<apiq::cpu::DotColumns>(context, args);
}
