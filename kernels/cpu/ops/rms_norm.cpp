#include "../../common/plans/rms_norm.h"
#include "../core/context.h"
#include "../isa/float_kernels.h"
#include "elementwise_items.h"

namespace apiq::cpu {
namespace {

class RmsNorm final : public Op {
 public:
  RmsNorm(const RmsNormPlan& plan, Isa isa) : plan_(plan), kernels_(float_kernels(isa)), rows_(rows_per_item(plan.cols)) {}

  uint64_t items(uint32_t) const override { return (plan_.rows + rows_ - 1) / rows_; }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker&) override {
    for (uint64_t row = begin * rows_; row < std::min<uint64_t>(end * rows_, plan_.rows); row++) {
      kernels_.rms_norm(plan_.x + row * plan_.x_stride, plan_.weight, plan_.y + row * plan_.y_stride, plan_.cols, plan_.eps);
    }
  }

 private:
  const RmsNormPlan plan_;
  const FloatKernels& kernels_;
  const uint64_t rows_;  // of an item
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_rms_norm(uint64_t context, const apiq_rms_norm_args* args) {
  return apiq::cpu::submit<apiq::cpu::RmsNorm>(context, args);
}
