#include <algorithm>
#include <cmath>
#include <numeric>

#include "../../common/plans/distill.h"
#include "../core/context.h"
#include "../isa/float_kernels.h"
#include "../isa/training_kernels.h"
#include "report.h"

namespace apiq::cpu {
namespace {

class TopLogProbs final : public Op {
 public:
  TopLogProbs(const TopLogProbsPlan& plan, Isa isa)
      : plan_(plan), kernels_(training_kernels(isa)), logit_kernels_(float_kernels(isa)) {}

  uint64_t items(uint32_t) const override { return plan_.rows; }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker& worker) override {
    for (uint64_t row = begin; row < end; row++) read(row, worker);
  }

 private:
  // A longer list is sorted; a short one is kept by insertion while the logits pass by once.
  static constexpr uint32_t longest_insertion = 256;

  void read(uint64_t row, Worker& worker) const {
    const float* logits = plan_.logits + row * plan_.vocab;
    int32_t* ids = plan_.ids + row * plan_.k;
    float* log_probs = plan_.log_probs + row * plan_.k;
    const double temperature = static_cast<double>(plan_.temperature);
    const float maximum = kernels_.largest_value(logits, plan_.vocab);
    const double sum = kernels_.exp_sum(logits, plan_.vocab, maximum, static_cast<float>(1 / temperature));
    if (std::isnan(sum)) {
      std::fill_n(ids, plan_.k, -1);
      std::fill_n(log_probs, plan_.k, 0.0f);
      report(worker, APIQ_INVALID_ARGUMENT, "Cannot rank row %" PRIu64 ": its logits hold a NaN or an infinity", row);
      return;
    }
    if (plan_.k <= longest_insertion) logit_kernels_.top(logits, plan_.vocab, plan_.k, ids, log_probs);
    else sort(logits, ids, worker);
    const double log_sum = std::log(sum);
    for (uint32_t i = 0; i < plan_.k; i++) {
      const double distance = static_cast<double>(logits[ids[i]]) - static_cast<double>(maximum);
      log_probs[i] = static_cast<float>(distance / temperature - log_sum);
    }
  }

  void sort(const float* logits, int32_t* ids, Worker& worker) const {
    int32_t* all = reinterpret_cast<int32_t*>(worker.scratch(plan_.vocab * sizeof(int32_t)));
    std::iota(all, all + plan_.vocab, 0);
    std::partial_sort(all, all + plan_.k, all + plan_.vocab,
                      [&](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
    std::copy_n(all, plan_.k, ids);
  }

  const TopLogProbsPlan plan_;
  const TrainingKernels& kernels_;
  const FloatKernels& logit_kernels_;
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_top_log_probs(uint64_t context, const apiq_top_log_probs_args* args) {
  return apiq::cpu::submit<apiq::cpu::TopLogProbs>(context, args);
}
