#include <cstring>

#include "../core/context.h"
#include "teacher_row.h"

namespace apiq::cpu {
namespace {

class TeacherKlBackward final : public Op {
 public:
  TeacherKlBackward(const TeacherKlBackwardPlan& plan, Isa isa) : plan_(plan), kernels_(training_kernels(isa)) {}

  uint64_t items(uint32_t) const override { return plan_.rows.rows; }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker& worker) override {
    const uint64_t vocab = plan_.rows.vocab;
    for (uint64_t row = begin; row < end; row++) {
      float* grad = plan_.grad + row * vocab;
      if (plan_.rows.targets[row] < 0 || !differentiate(row, grad, worker)) std::memset(grad, 0, vocab * sizeof(float));
    }
  }

 private:
  bool differentiate(uint64_t row, float* grad, Worker& worker) const {
    const TeacherRows& rows = plan_.rows;
    float* taken = reinterpret_cast<float*>(worker.scratch(rows.k * sizeof(float)));
    const float* logits = rows.logits + row * rows.vocab;
    if (grad != logits) std::memcpy(grad, logits, rows.vocab * sizeof(float));
    if (!take_tokens(rows, row, grad, taken, worker)) return false;
    const TeacherRow teacher(rows, row, grad, taken, kernels_);
    const double kl_scale = static_cast<double>(plan_.kl_scale) / static_cast<double>(rows.temperature);
    const double nll_scale = static_cast<double>(plan_.nll_scale);
    const double nll_factor = nll_scale == 0 ? 0 : nll_scale / plain_sum(teacher, grad);
    if (teacher.has_rest()) differentiate_rest(teacher, grad, kl_scale, nll_factor);
    const int32_t* ids = rows.ids + row * rows.k;
    for (uint32_t i = 0; i < rows.k; i++) {
      const double kl = kl_scale * (std::exp(teacher.log_q(i)) - std::exp(teacher.log_p(i)));
      const double nll = nll_factor == 0 ? 0 : nll_factor * std::exp(static_cast<double>(taken[i]) - teacher.maximum);
      grad[ids[i]] = static_cast<float>(kl + nll);
    }
    grad[rows.targets[row]] -= plan_.nll_scale;
    return true;
  }

  // Sum over all logits of exp(logit - maximum).
  double plain_sum(const TeacherRow& teacher, const float* rest) const {
    const double taken = teacher.taken_sum(1);
    if (!teacher.has_rest()) return taken;
    const double scale = std::exp(teacher.rest_maximum - teacher.maximum);
    if (plan_.rows.temperature == 1) return teacher.rest_sum * scale + taken;
    return kernels_.exp_sum(rest, plan_.rows.vocab, static_cast<float>(teacher.rest_maximum), 1) * scale + taken;
  }

  // q_j (1 - p_rest / q_rest) = (q_rest - p_rest) times the softmax over the rest alone, which needs no quotient of small numbers.
  void differentiate_rest(const TeacherRow& teacher, float* grad, double kl_scale, double nll_factor) const {
    const double difference = std::exp(teacher.log_q_rest()) - teacher.p_rest();
    const double kl = kl_scale * difference / teacher.rest_sum;
    const double nll = nll_factor * std::exp(teacher.rest_maximum - teacher.maximum);
    const float shift = static_cast<float>(teacher.rest_maximum);
    const bool same = plan_.rows.temperature == 1;
    const ExpTerm first = {static_cast<float>(same ? kl + nll : kl), shift, teacher.inverse_temperature()};
    const ExpTerm second = {static_cast<float>(same ? 0 : nll), shift, 1};
    kernels_.add_exps(grad, grad, plan_.rows.vocab, first, second);
  }

  const TeacherKlBackwardPlan plan_;
  const TrainingKernels& kernels_;
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_teacher_kl_backward(uint64_t context, const apiq_teacher_kl_backward_args* args) {
  return apiq::cpu::submit<apiq::cpu::TeacherKlBackward>(context, args);
}
