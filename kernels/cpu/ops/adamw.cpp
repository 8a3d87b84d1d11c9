#include <charconv>
#include <cmath>

#include "../../common/plans/adamw.h"
#include "../core/context.h"
#include "../isa/training_kernels.h"
#include "elementwise_items.h"

namespace apiq::cpu {
namespace {

// The number that was meant by a float32: the shortest decimal that rounds to it. 0.999 as float32 is off by 1.3e-8, of which
// 1 - beta2 would make a relative error of 1.3e-5.
double as_written(float value) {
  char text[32];
  const std::to_chars_result written = std::to_chars(text, text + sizeof text, value);
  double number = 0;
  std::from_chars(text, written.ptr, number);
  return number;
}

AdamwFactors factors_of(const AdamwPlan& plan) {
  const double lr = as_written(plan.lr);
  const double beta1 = as_written(plan.beta1);
  const double beta2 = as_written(plan.beta2);
  const double step = static_cast<double>(plan.step);
  return {.decay = static_cast<float>(1 - lr * as_written(plan.weight_decay)),
          .one_minus_beta1 = static_cast<float>(1 - beta1),
          .beta2 = static_cast<float>(beta2),
          .one_minus_beta2 = static_cast<float>(1 - beta2),
          .root = static_cast<float>(std::sqrt(1 - std::pow(beta2, step))),
          .eps = plan.eps,
          .step_size = static_cast<float>(lr / (1 - std::pow(beta1, step))),
          .grad_scale = plan.grad_scale};
}

class Adamw final : public Op {
 public:
  Adamw(const AdamwPlan& plan, Isa isa) : plan_(plan), factors_(factors_of(plan)), kernels_(training_kernels(isa)) {}

  uint64_t items(uint32_t) const override { return elementwise_items(plan_.count); }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker&) override {
    each_range(begin, end, plan_.count, [&](uint64_t first, uint64_t n) {
      kernels_.adamw(plan_.parameter + first, plan_.grad + first, plan_.m + first, plan_.v + first, n, factors_);
    });
  }

 private:
  const AdamwPlan plan_;
  const AdamwFactors factors_;
  const TrainingKernels& kernels_;
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_adamw(uint64_t context, const apiq_adamw_args* args) {
  return apiq::cpu::submit<apiq::cpu::Adamw>(context, args);
}
