#include "../../common/plans/rope.h"
#include "../core/context.h"
#include "../isa/float_kernels.h"
#include "elementwise_items.h"

namespace apiq::cpu {
namespace {

class Rotary final : public Op {
 public:
  Rotary(const RotaryPlan& plan, Isa isa)
      : plan_(plan),
        kernels_(float_kernels(isa)),
        width_(uint64_t{plan.n_heads} * plan.head_dim),
        rows_(rows_per_item(width_)) {}

  uint64_t items(uint32_t) const override { return (plan_.rows + rows_ - 1) / rows_; }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker&) override {
    for (uint64_t row = begin * rows_; row < std::min<uint64_t>(end * rows_, plan_.rows); row++) {
      kernels_.rotary(plan_.x + row * width_, plan_.table + row * plan_.head_dim, plan_.n_heads, plan_.head_dim, plan_.inverse);
    }
  }

 private:
  const RotaryPlan plan_;
  const FloatKernels& kernels_;
  const uint64_t width_;  // of a row, in elements
  const uint64_t rows_;   // of an item
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_rotary(uint64_t context, const apiq_rotary_args* args) {
  return apiq::cpu::submit<apiq::cpu::Rotary>(context, args);
}
