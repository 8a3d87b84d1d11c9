#pragma once

#include "checks.h"

namespace apiq {

struct TokenNllPlan {
  const float* logits;     // [rows, vocab]
  const int32_t* targets;  // [rows]
  float* nll;              // [rows]
  uint32_t rows;
  uint32_t vocab;
};

inline TokenNllPlan plan(ContextBase& context, const apiq_token_nll_args& args) {
  require_positive(args.rows, "rows");
  require_positive(args.vocab, "vocab");
  const uint64_t count = uint64_t{args.rows} * args.vocab;
  const TokenNllPlan plan{context.in<float>(args.logits, count, "logits"), context.in<int32_t>(args.targets, args.rows, "targets"),
                          context.out<float>(args.nll, args.rows, "nll"), args.rows, args.vocab};
  require_apart(plan.nll, args.rows * sizeof(float), plan.logits, count * sizeof(float), "nll and logits");
  require_apart(plan.nll, args.rows * sizeof(float), plan.targets, args.rows * sizeof(int32_t), "nll and targets");
  return plan;
}

}  // namespace apiq
