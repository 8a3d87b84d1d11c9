#include <cstring>

#include "../core/context.h"
#include "teacher_row.h"

namespace apiq::cpu {
namespace {

class TeacherKl final : public Op {
 public:
  TeacherKl(const TeacherKlPlan& plan, Isa isa) : plan_(plan), kernels_(training_kernels(isa)) {}

  uint64_t items(uint32_t) const override { return plan_.rows.rows; }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker& worker) override {
    for (uint64_t row = begin; row < end; row++) plan_.kl[row] = evaluate(row, worker);
  }

 private:
  float evaluate(uint64_t row, Worker& worker) const {
    const TeacherRows& rows = plan_.rows;
    if (rows.targets[row] < 0) return 0;
    float* rest = reinterpret_cast<float*>(worker.scratch((uint64_t{rows.vocab} + rows.k) * sizeof(float)));
    float* taken = rest + rows.vocab;
    std::memcpy(rest, rows.logits + row * rows.vocab, rows.vocab * sizeof(float));
    if (!take_tokens(rows, row, rest, taken, worker)) return 0;
    const TeacherRow teacher(rows, row, rest, taken, kernels_);
    double kl = 0;
    for (uint32_t i = 0; i < rows.k; i++) {
      const double p = std::exp(teacher.log_p(i));
      if (p != 0) kl += p * (teacher.log_p(i) - teacher.log_q(i));
    }
    if (teacher.p_rest() != 0) kl += teacher.p_rest() * (std::log(teacher.p_rest()) - teacher.log_q_rest());
    return static_cast<float>(kl);
  }

  const TeacherKlPlan plan_;
  const TrainingKernels& kernels_;
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_teacher_kl(uint64_t context, const apiq_teacher_kl_args* args) {
  return apiq::cpu::submit<apiq::cpu::TeacherKl>(context, args);
}
