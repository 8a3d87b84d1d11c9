// One row of a student's logits beside what is known of its teacher: the tokens that the teacher names, and all others as one.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "../../common/plans/distill.h"
#include "../isa/training_kernels.h"
#include "report.h"

namespace apiq::cpu {

// Moves the logits of the row's tokens to `taken` [k] and leaves -infinity in their places. False, and reported, where that cannot
// be.
inline bool take_tokens(const TeacherRows& rows, uint64_t row, float* logits, float* taken, Worker& worker) {
  constexpr float lowest = -std::numeric_limits<float>::infinity();
  const int32_t* ids = rows.ids + row * rows.k;
  if (static_cast<uint32_t>(rows.targets[row]) >= rows.vocab) {
    report(worker, APIQ_OUT_OF_RANGE, "Cannot distil row %" PRIu64 ": received target %d, expected less than %u", row,
           rows.targets[row], rows.vocab);
    return false;
  }
  for (uint32_t i = 0; i < rows.k; i++) {
    const bool inside = ids[i] >= 0 && static_cast<uint32_t>(ids[i]) < rows.vocab;
    if (!inside || logits[ids[i]] == lowest) {
      report(worker, APIQ_OUT_OF_RANGE, "Cannot distil row %" PRIu64 ": received token %d%s", row, ids[i],
             inside ? " twice, or its logit is -infinity" : ", which is not in the vocabulary");
      return false;
    }
    taken[i] = logits[ids[i]];
    logits[ids[i]] = lowest;
  }
  return true;
}

// Distributions p of the teacher and q of the student at the temperature, in double precision. What the rest sums up to is never a
// difference, so that it keeps its digits where the tokens named have nearly all of the mass.
class TeacherRow {
 public:
  // `rest` [vocab] and `taken` [k] are what take_tokens leaves.
  TeacherRow(const TeacherRows& rows, uint64_t row, const float* rest, const float* taken, const TrainingKernels& kernels)
      : rows_(rows), log_probs_(rows.log_probs + row * rows.k), taken_(taken), temperature_(static_cast<double>(rows.temperature)) {
    double p_sum = 0;
    for (uint32_t i = 0; i < rows.k; i++) p_sum += std::exp(static_cast<double>(log_probs_[i]));
    log_p_sum_ = has_rest() && !(p_sum > 1) ? 0 : std::log(p_sum);
    p_rest_ = has_rest() ? std::max(0.0, 1 - p_sum) : 0;
    maximum = *std::max_element(taken, taken + rows.k);
    if (has_rest()) {
      rest_maximum = kernels.largest_value(rest, rows.vocab);
      rest_sum = kernels.exp_sum(rest, rows.vocab, rest_maximum, inverse_temperature());
      maximum = std::max(maximum, rest_maximum);
    }
    const double total = rest_sum * std::exp((rest_maximum - maximum) / temperature_) + taken_sum(temperature_);
    log_total_ = maximum / temperature_ + std::log(total);
  }

  bool has_rest() const { return rows_.k < rows_.vocab; }
  float inverse_temperature() const { return static_cast<float>(1 / temperature_); }

  // Sum over the tokens of exp((logit - maximum) / temperature).
  double taken_sum(double temperature) const {
    double sum = 0;
    for (uint32_t i = 0; i < rows_.k; i++) sum += std::exp((static_cast<double>(taken_[i]) - maximum) / temperature);
    return sum;
  }

  double log_p(uint32_t i) const { return static_cast<double>(log_probs_[i]) - log_p_sum_; }
  double log_q(uint32_t i) const { return static_cast<double>(taken_[i]) / temperature_ - log_total_; }
  double p_rest() const { return p_rest_; }
  double log_q_rest() const { return rest_maximum / temperature_ + std::log(rest_sum) - log_total_; }

  double maximum = 0;       // of all logits
  double rest_maximum = 0;
  double rest_sum = 0;      // over the rest, of exp((logit - rest_maximum) / temperature)

 private:
  const TeacherRows& rows_;
  const float* log_probs_;
  const float* taken_;
  const double temperature_;
  double log_p_sum_ = 0;  // by which the teacher's log-probabilities are lowered
  double p_rest_ = 0;
  double log_total_ = 0;  // log of the sum over all of exp(logit / temperature)
};

}  // namespace apiq::cpu
