#include "../../common/plans/losses.h"
#include "../core/context.h"
#include "../isa/training_kernels.h"
#include "partial_sums.h"

namespace apiq::cpu {
namespace {

class SumSquares final : public Op {
 public:
  SumSquares(const SumSquaresPlan& plan, Isa isa) : plan_(plan), kernels_(training_kernels(isa)), sums_(plan.count) {}

  uint32_t phases() const override { return 2; }
  uint64_t items(uint32_t phase) const override { return sums_.items(phase); }

  void run(uint32_t phase, uint64_t begin, uint64_t end, Worker&) override {
    if (phase == 1) plan_.sum[0] += sums_.total();
    else sums_.each(begin, end, [&](uint64_t first, uint64_t n) { return kernels_.sum_squares(plan_.x + first, n); });
  }

 private:
  const SumSquaresPlan plan_;
  const TrainingKernels& kernels_;
  PartialSums sums_;
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_sum_squares(uint64_t context, const apiq_sum_squares_args* args) {
  return apiq::cpu::submit<apiq::cpu::SumSquares>(context, args);
}
