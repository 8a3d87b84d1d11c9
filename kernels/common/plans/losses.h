// Plans of mse_loss, token_nll_backward and sum_squares; those of distillation are in distill.h.
#pragma once

#include "checks.h"

namespace apiq {

struct MseLossPlan {
  const float* prediction;  // [count]
  const float* target;      // [count]
  float* grad;              // [count] or null
  double* loss;             // [1]
  uint64_t count;
  float scale;
  bool accumulate;
};

inline MseLossPlan plan(ContextBase& context, const apiq_mse_loss_args& args) {
  require_positive(args.count, "count");
  require_finite(args.scale, "scale");
  require_flag(args.accumulate, "accumulate");
  const MseLossPlan plan{context.in<float>(args.prediction, args.count, "prediction"),
                         context.in<float>(args.target, args.count, "target"),
                         context.out_optional<float>(args.grad, args.count, "grad"),
                         context.out<double>(args.loss, 1, "loss"),
                         args.count,
                         args.scale,
                         args.accumulate == 1};
  const uint64_t bytes = args.count * sizeof(float);
  require_apart(plan.loss, sizeof(double), plan.prediction, bytes, "loss and prediction");
  require_apart(plan.loss, sizeof(double), plan.target, bytes, "loss and target");
  if (plan.grad != nullptr) {
    require_apart(plan.grad, bytes, plan.prediction, bytes, "grad and prediction");
    require_apart(plan.grad, bytes, plan.target, bytes, "grad and target");
    require_apart(plan.grad, bytes, plan.loss, sizeof(double), "grad and loss");
  }
  return plan;
}

struct TokenNllBackwardPlan {
  const float* logits;     // [rows, vocab]
  const int32_t* targets;  // [rows]
  float* grad;             // [rows, vocab]
  uint32_t rows;
  uint32_t vocab;
  float scale;
};

inline TokenNllBackwardPlan plan(ContextBase& context, const apiq_token_nll_backward_args& args) {
  require_positive(args.rows, "rows");
  require_positive(args.vocab, "vocab");
  require_finite(args.scale, "scale");
  require_zero(args.reserved, "reserved");
  const uint64_t count = uint64_t{args.rows} * args.vocab;
  const TokenNllBackwardPlan plan{context.in<float>(args.logits, count, "logits"),
                                  context.in<int32_t>(args.targets, args.rows, "targets"),
                                  context.out<float>(args.grad, count, "grad"),
                                  args.rows,
                                  args.vocab,
                                  args.scale};
  require_same_or_apart(plan.grad, plan.logits, count * sizeof(float), "grad and logits");
  require_apart(plan.grad, count * sizeof(float), plan.targets, args.rows * sizeof(int32_t), "grad and targets");
  return plan;
}

struct SumSquaresPlan {
  const float* x;  // [count]
  double* sum;     // [1]
  uint64_t count;
};

inline SumSquaresPlan plan(ContextBase& context, const apiq_sum_squares_args& args) {
  require_positive(args.count, "count");
  const SumSquaresPlan plan{context.in<float>(args.x, args.count, "x"), context.out<double>(args.sum, 1, "sum"), args.count};
  require_apart(plan.sum, sizeof(double), plan.x, args.count * sizeof(float), "sum and x");
  return plan;
}

}  // namespace apiq
