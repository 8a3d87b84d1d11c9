// Plans of top_log_probs, teacher_kl and teacher_kl_backward.
#pragma once

#include "checks.h"

namespace apiq {

inline void require_temperature(float value) {
  APIQ_REQUIRE(std::isfinite(value) && value > 0, "temperature: received %g, expected a number above 0",
               static_cast<double>(value));
}

inline void require_k(uint32_t k, uint32_t vocab) {
  APIQ_REQUIRE(k >= 1 && k <= vocab, "k: received %u, expected 1 to %u, the vocabulary", k, vocab);
}

struct TopLogProbsPlan {
  const float* logits;  // [rows, vocab]
  int32_t* ids;         // [rows, k]
  float* log_probs;     // [rows, k]
  uint32_t rows;
  uint32_t vocab;
  uint32_t k;
  float temperature;
};

inline TopLogProbsPlan plan(ContextBase& context, const apiq_top_log_probs_args& args) {
  require_positive(args.rows, "rows");
  require_positive(args.vocab, "vocab");
  require_k(args.k, args.vocab);
  require_temperature(args.temperature);
  const uint64_t count = uint64_t{args.rows} * args.vocab;
  const uint64_t top = uint64_t{args.rows} * args.k;
  const TopLogProbsPlan plan{context.in<float>(args.logits, count, "logits"),
                             context.out<int32_t>(args.ids, top, "ids"),
                             context.out<float>(args.log_probs, top, "log_probs"),
                             args.rows,
                             args.vocab,
                             args.k,
                             args.temperature};
  require_apart(plan.ids, top * sizeof(int32_t), plan.logits, count * sizeof(float), "ids and logits");
  require_apart(plan.log_probs, top * sizeof(float), plan.logits, count * sizeof(float), "log_probs and logits");
  require_apart(plan.log_probs, top * sizeof(float), plan.ids, top * sizeof(int32_t), "log_probs and ids");
  return plan;
}

// A student's logits and what is known of its teacher.
struct TeacherRows {
  const float* logits;      // [rows, vocab]
  const int32_t* targets;   // [rows]
  const int32_t* ids;       // [rows, k]; data: kernels check them when they run
  const float* log_probs;   // [rows, k]
  uint32_t rows;
  uint32_t vocab;
  uint32_t k;
  float temperature;

  uint64_t logits_bytes() const { return uint64_t{rows} * vocab * sizeof(float); }

  // An output of `bytes` bytes lies apart from everything but, where that is allowed, the logits.
  void require_apart_from(const void* output, uint64_t bytes, const char* name) const {
    const std::string with = std::string(name) + " and ";
    require_apart(output, bytes, targets, rows * sizeof(int32_t), (with + "targets").c_str());
    require_apart(output, bytes, ids, uint64_t{rows} * k * sizeof(int32_t), (with + "ids").c_str());
    require_apart(output, bytes, log_probs, uint64_t{rows} * k * sizeof(float), (with + "log_probs").c_str());
  }
};

template <class Args>
TeacherRows plan_teacher_rows(ContextBase& context, const Args& args) {
  require_positive(args.rows, "rows");
  require_positive(args.vocab, "vocab");
  require_k(args.k, args.vocab);
  require_temperature(args.temperature);
  const uint64_t top = uint64_t{args.rows} * args.k;
  return {context.in<float>(args.logits, uint64_t{args.rows} * args.vocab, "logits"),
          context.in<int32_t>(args.targets, args.rows, "targets"),
          context.in<int32_t>(args.ids, top, "ids"),
          context.in<float>(args.log_probs, top, "log_probs"),
          args.rows,
          args.vocab,
          args.k,
          args.temperature};
}

struct TeacherKlPlan {
  TeacherRows rows;
  float* kl;  // [rows]
};

inline TeacherKlPlan plan(ContextBase& context, const apiq_teacher_kl_args& args) {
  const TeacherRows rows = plan_teacher_rows(context, args);
  const TeacherKlPlan plan{rows, context.out<float>(args.kl, args.rows, "kl")};
  const uint64_t bytes = args.rows * sizeof(float);
  rows.require_apart_from(plan.kl, bytes, "kl");
  require_apart(plan.kl, bytes, rows.logits, rows.logits_bytes(), "kl and logits");
  return plan;
}

struct TeacherKlBackwardPlan {
  TeacherRows rows;
  float* grad;  // [rows, vocab]
  float kl_scale;
  float nll_scale;
};

inline TeacherKlBackwardPlan plan(ContextBase& context, const apiq_teacher_kl_backward_args& args) {
  require_finite(args.kl_scale, "kl_scale");
  require_finite(args.nll_scale, "nll_scale");
  const TeacherRows rows = plan_teacher_rows(context, args);
  const TeacherKlBackwardPlan plan{rows, context.out<float>(args.grad, uint64_t{args.rows} * args.vocab, "grad"), args.kl_scale,
                                   args.nll_scale};
  rows.require_apart_from(plan.grad, rows.logits_bytes(), "grad");
  require_same_or_apart(plan.grad, rows.logits, rows.logits_bytes(), "grad and logits");
  return plan;
}

}  // namespace apiq
