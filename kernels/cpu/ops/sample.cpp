#include "../../common/plans/sample.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "../../common/philox.h"
#include "../core/context.h"
#include "../isa/float_kernels.h"
#include "report.h"
#include "token_ranking.h"

namespace apiq::cpu {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

uint64_t aligned(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

// An item is a row.
class Sample final : public Op {
 public:
  Sample(const SamplePlan& plan, Isa isa) : plan_(plan), kernels_(float_kernels(isa)) {}

  uint64_t items(uint32_t) const override { return plan_.rows; }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker& worker) override {
    for (uint64_t row = begin; row < end; row++) {
      Result result{0, 0};
      const bool drawn = draw_row(row, result, worker);
      plan_.tokens[row] = result.token;
      plan_.logprobs[row] = result.logprob;
      if (plan_.max_top != 0) report_top(row, drawn ? &result : nullptr);
    }
  }

 private:
  struct Result {
    int32_t token;
    float logprob;
    double log_sum = 0;  // of exp(raw logits)
  };

  const float* logits(uint64_t row) const { return plan_.logits + row * plan_.vocab; }

  // False after reporting why nothing could be drawn; the row's token is then 0.
  bool draw_row(uint64_t row, Result& result, Worker& worker) const {
    const apiq_sample_params& params = plan_.params[row];
    if (const char* fault = sample_params_fault(params, plan_)) {
      report(worker, APIQ_INVALID_ARGUMENT, "Cannot sample row %" PRIu64 ": %s", row, fault);
      return false;
    }
    const LogitStatistics statistics = kernels_.statistics(logits(row), plan_.vocab);
    if (std::isnan(statistics.sum)) {
      report(worker, APIQ_INVALID_ARGUMENT, "Cannot sample row %" PRIu64 ": its logits hold a NaN or an infinity, or are all -infinity", row);
      return false;
    }
    result.log_sum = statistics.maximum + std::log(statistics.sum);

    std::byte* scratch = worker.scratch(adjustment_bytes() + TokenRanking::scratch_bytes(plan_.vocab));
    const float* adjusted = adjust(row, scratch, worker);
    if (adjusted == nullptr) return false;
    const uint32_t best = kernels_.largest(adjusted, plan_.vocab);
    if (!std::isfinite(adjusted[best])) {
      report(worker, APIQ_INVALID_ARGUMENT, "Cannot sample row %" PRIu64 ": %s", row,
             adjusted[best] < 0 ? "its mask and biases leave no token" : "its penalties and biases make a logit infinite");
      return false;
    }
    result.token = params.temperature == 0 ? static_cast<int32_t>(best) : draw(params, adjusted, adjusted[best], scratch + adjustment_bytes());
    result.logprob = static_cast<float>(logits(row)[result.token] - result.log_sum);
    return true;
  }

  int32_t draw(const apiq_sample_params& params, const float* adjusted, float maximum, std::byte* scratch) const {
    TokenRanking ranking(adjusted, plan_.vocab, maximum, params.temperature, kernels_, scratch);
    TokenRanking::Prefix kept = ranking.all();
    if (params.top_k != 0) kept = ranking.with_count(kept, static_cast<uint32_t>(params.top_k));
    if (params.top_p < 1) kept = ranking.with_mass_of_at_least(kept, static_cast<double>(params.top_p) * kept.mass);
    if (params.min_p > 0) {
      const double threshold = maximum + static_cast<double>(params.temperature) * std::log(static_cast<double>(params.min_p));
      kept = ranking.with_count(kept, ranking.count_from(threshold));
    }
    return ranking.with_mass_above(kept, philox_uniform(params.seed, params.position) * kept.mass).last_token;
  }

  // The row's logits after penalties, bias and mask: themselves, or a changed copy in `scratch`. Null after reporting a bad token.
  const float* adjust(uint64_t row, std::byte* scratch, Worker& worker) const {
    const apiq_sample_params& params = plan_.params[row];
    const bool penalised = params.repetition_penalty != 1 || params.presence_penalty != 0 || params.frequency_penalty != 0;
    if (!penalised && params.bias_count == 0 && params.mask_row == -1) return logits(row);
    float* adjusted = reinterpret_cast<float*>(scratch);
    std::memcpy(adjusted, logits(row), plan_.vocab * sizeof(float));
    if (penalised && !apply_penalties(row, adjusted, reinterpret_cast<uint32_t*>(scratch + aligned(plan_.vocab * sizeof(float))), worker)) {
      return nullptr;
    }
    for (int32_t i = 0; i < params.bias_count; i++) {
      const apiq_token_bias& entry = plan_.bias[params.bias_first + i];
      if (!token_exists(entry.token, "bias", row, worker)) return nullptr;
      if (!std::isfinite(entry.bias)) {
        report(worker, APIQ_INVALID_ARGUMENT, "Cannot sample row %" PRIu64 ": received bias %g for token %d, expected a finite number", row,
               static_cast<double>(entry.bias), entry.token);
        return nullptr;
      }
      adjusted[entry.token] += entry.bias;
    }
    if (params.mask_row != -1) {
      const uint32_t* mask = plan_.masks + static_cast<uint32_t>(params.mask_row) * plan_.mask_words();
      for (uint32_t i = 0; i < plan_.vocab; i++) adjusted[i] = (mask[i / 32] >> (i % 32) & 1u) != 0 ? adjusted[i] : -infinity;
    }
    return adjusted;
  }

  // `seen` has a word for each token: how often the output holds it, and the top bit when it occurs at all.
  bool apply_penalties(uint64_t row, float* adjusted, uint32_t* seen, Worker& worker) const {
    constexpr uint32_t occurs = 1u << 31;
    const apiq_sample_params& params = plan_.params[row];
    const int32_t* history = plan_.history + static_cast<uint64_t>(params.history_row) * plan_.history_cols;
    std::memset(seen, 0, plan_.vocab * sizeof(uint32_t));
    for (int32_t i = 0; i < params.history_tokens; i++) {
      if (!token_exists(history[i], "history", row, worker)) return false;
      seen[history[i]] = (seen[history[i]] | occurs) + (i >= params.prompt_tokens ? 1 : 0);
    }
    for (int32_t i = 0; i < params.history_tokens; i++) {
      const uint32_t count = seen[history[i]] & ~occurs;
      if (seen[history[i]] == 0) continue;  // done at an earlier occurrence
      seen[history[i]] = 0;
      float& logit = adjusted[history[i]];
      logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
      logit -= static_cast<float>(count) * params.frequency_penalty;
      if (count != 0) logit -= params.presence_penalty;
    }
    return true;
  }

  bool token_exists(int32_t token, const char* where, uint64_t row, Worker& worker) const {
    if (token >= 0 && static_cast<uint32_t>(token) < plan_.vocab) return true;
    report(worker, APIQ_OUT_OF_RANGE, "Cannot sample row %" PRIu64 ": received token %d in its %s, expected 0 to %u", row, token, where,
           plan_.vocab - 1);
    return false;
  }

  // Entries past n_top, and all of a row that failed, are token -1 with log-probability 0.
  void report_top(uint64_t row, const Result* result) const {
    int32_t* tokens = plan_.top_tokens + row * plan_.max_top;
    float* logprobs = plan_.top_logprobs + row * plan_.max_top;
    const uint32_t n = result != nullptr ? static_cast<uint32_t>(plan_.params[row].n_top) : 0;
    kernels_.top(logits(row), plan_.vocab, n, tokens, logprobs);
    for (uint32_t i = 0; i < n; i++) logprobs[i] = static_cast<float>(logprobs[i] - result->log_sum);
    for (uint32_t i = n; i < plan_.max_top; i++) {
      tokens[i] = -1;
      logprobs[i] = 0;
    }
  }

  uint64_t adjustment_bytes() const { return aligned(plan_.vocab * sizeof(float)) + aligned(plan_.vocab * sizeof(uint32_t)); }

  const SamplePlan plan_;
  const FloatKernels& kernels_;
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_sample(uint64_t context, const apiq_sample_args* args) {
  return apiq::cpu::submit<apiq::cpu::Sample>(context, args);
}
