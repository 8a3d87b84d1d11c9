#include "../../common/plans/elementwise.h"
#include "../core/context.h"
#include "../isa/float_kernels.h"
#include "elementwise_items.h"

namespace apiq::cpu {
namespace {

class Add final : public Op {
 public:
  Add(const AddPlan& plan, Isa isa) : plan_(plan), kernels_(float_kernels(isa)) {}

  uint64_t items(uint32_t) const override { return elementwise_items(plan_.count); }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker&) override {
    each_range(begin, end, plan_.count,
               [&](uint64_t first, uint64_t n) { kernels_.add(plan_.a + first, plan_.b + first, plan_.y + first, n); });
  }

 private:
  const AddPlan plan_;
  const FloatKernels& kernels_;
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_add(uint64_t context, const apiq_add_args* args) { return apiq::cpu::submit<apiq::cpu::Add>(context, args); }
