#include <cmath>

#include "../../common/plans/token_nll.h"
#include "../core/context.h"
#include "../isa/float_kernels.h"
#include "report.h"

namespace apiq::cpu {
namespace {

class TokenNll final : public Op {
 public:
  TokenNll(const TokenNllPlan& plan, Isa isa) : plan_(plan), kernels_(float_kernels(isa)) {}

  uint64_t items(uint32_t) const override { return plan_.rows; }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker& worker) override {
    for (uint64_t row = begin; row < end; row++) plan_.nll[row] = evaluate(row, worker);
  }

 private:
  float evaluate(uint64_t row, Worker& worker) const {
    const int32_t target = plan_.targets[row];
    if (target < 0) return 0;
    if (static_cast<uint32_t>(target) >= plan_.vocab) {
      report(worker, APIQ_OUT_OF_RANGE, "Cannot evaluate row %" PRIu64 ": received target %d, expected less than %u", row, target, plan_.vocab);
      return 0;
    }
    const float* logits = plan_.logits + row * plan_.vocab;
    const LogitStatistics statistics = kernels_.statistics(logits, plan_.vocab);
    return static_cast<float>(statistics.maximum + std::log(statistics.sum) - logits[target]);
  }

  const TokenNllPlan plan_;
  const FloatKernels& kernels_;
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_token_nll(uint64_t context, const apiq_token_nll_args* args) {
  return apiq::cpu::submit<apiq::cpu::TokenNll>(context, args);
}
