#include <cmath>

#include "../../common/plans/rope.h"
#include "../core/context.h"

namespace apiq::cpu {
namespace {

// Once a step for all layers, so plain code serves every instruction set: the angle is a float32 product, as in the models' reference
// code, its cosine and sine are taken in float64 and rounded once.
class RopeTable final : public Op {
 public:
  RopeTable(const RopeTablePlan& plan, Isa) : plan_(plan) {}

  uint64_t items(uint32_t) const override { return (plan_.rows + rows_per_item - 1) / rows_per_item; }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker&) override {
    const uint64_t half = plan_.half_dim;
    for (uint64_t row = begin * rows_per_item; row < std::min<uint64_t>(end * rows_per_item, plan_.rows); row++) {
      const float position = static_cast<float>(plan_.positions[row]);
      float* cosines = plan_.table + row * 2 * half;
      float* sines = cosines + half;
      for (uint64_t i = 0; i < half; i++) {
        const double angle = static_cast<double>(position * plan_.inv_freq[i]);
        cosines[i] = static_cast<float>(std::cos(angle)) * plan_.scale;
        sines[i] = static_cast<float>(std::sin(angle)) * plan_.scale;
      }
    }
  }

 private:
  static constexpr uint64_t rows_per_item = 16;
  const RopeTablePlan plan_;
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_rope_table(uint64_t context, const apiq_rope_table_args* args) {
  return apiq::cpu::submit<apiq::cpu::RopeTable>(context, args);
}
