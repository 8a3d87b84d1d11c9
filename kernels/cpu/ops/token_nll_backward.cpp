#include <cstring>

#include "../../common/plans/losses.h"
#include "../core/context.h"
#include "../isa/training_kernels.h"
#include "report.h"

namespace apiq::cpu {
namespace {

class TokenNllBackward final : public Op {
 public:
  TokenNllBackward(const TokenNllBackwardPlan& plan, Isa isa) : plan_(plan), kernels_(training_kernels(isa)) {}

  uint64_t items(uint32_t) const override { return plan_.rows; }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker& worker) override {
    for (uint64_t row = begin; row < end; row++) differentiate(row, worker);
  }

 private:
  void differentiate(uint64_t row, Worker& worker) const {
    const int32_t target = plan_.targets[row];
    float* grad = plan_.grad + row * plan_.vocab;
    const bool outside = target >= 0 && static_cast<uint32_t>(target) >= plan_.vocab;
    if (outside) {
      const char* format = "Cannot differentiate row %" PRIu64 ": received target %d, expected less than %u";
      report(worker, APIQ_OUT_OF_RANGE, format, row, target, plan_.vocab);
    }
    if (outside || target < 0) {
      std::memset(grad, 0, plan_.vocab * sizeof(float));
      return;
    }
    kernels_.softmax(plan_.logits + row * plan_.vocab, plan_.scale, grad, plan_.vocab);
    grad[target] -= plan_.scale;
  }

  const TokenNllBackwardPlan plan_;
  const TrainingKernels& kernels_;
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_token_nll_backward(uint64_t context, const apiq_token_nll_backward_args* args) {
  return apiq::cpu::submit<apiq::cpu::TokenNllBackward>(context, args);
}
