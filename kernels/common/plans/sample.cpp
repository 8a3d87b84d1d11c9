#include "sample.h"

namespace apiq {

SamplePlan plan(ContextBase& context, const apiq_sample_args& args) {
  require_positive(args.rows, "rows");
  require_positive(args.vocab, "vocab");
  require_zero(args.reserved, "reserved");
  APIQ_REQUIRE(args.vocab <= INT32_MAX, "vocab: received %u, expected at most %d", args.vocab, INT32_MAX);
  APIQ_REQUIRE(args.max_top <= args.vocab, "max_top: received %u, expected at most vocab = %u", args.max_top, args.vocab);
  SamplePlan plan{};
  plan.rows = args.rows;
  plan.vocab = args.vocab;
  plan.max_top = args.max_top;
  const uint64_t logit_count = uint64_t{args.rows} * args.vocab;
  plan.logits = context.in<float>(args.logits, logit_count, "logits");
  plan.params = context.in<apiq_sample_params>(args.params, args.rows, "params");
  plan.history = context.in_optional<int32_t>(args.history, uint64_t{args.history_rows} * args.history_cols, "history");
  plan.bias = context.in_optional<apiq_token_bias>(args.bias, args.bias_capacity, "bias");
  plan.masks = context.in_optional<uint32_t>(args.masks, checked_mul(args.mask_rows, plan.mask_words(), "masks"), "masks");
  plan.history_rows = plan.history != nullptr ? args.history_rows : 0;
  plan.history_cols = plan.history != nullptr ? args.history_cols : 0;
  plan.bias_capacity = plan.bias != nullptr ? args.bias_capacity : 0;
  plan.mask_rows = plan.masks != nullptr ? args.mask_rows : 0;

  const uint64_t top_count = uint64_t{args.rows} * args.max_top;
  plan.tokens = context.out<int32_t>(args.tokens, args.rows, "tokens");
  plan.logprobs = context.out<float>(args.logprobs, args.rows, "logprobs");
  plan.top_tokens = context.out_optional<int32_t>(args.top_tokens, top_count, "top_tokens");
  plan.top_logprobs = context.out_optional<float>(args.top_logprobs, top_count, "top_logprobs");
  APIQ_REQUIRE(args.max_top == 0 || (plan.top_tokens != nullptr && plan.top_logprobs != nullptr),
               "top_tokens and top_logprobs: expected both, because max_top is %u", args.max_top);

  struct Range {
    const void* data;
    uint64_t bytes;
  };
  const Range outputs[] = {{plan.tokens, args.rows * sizeof(int32_t)},
                           {plan.logprobs, args.rows * sizeof(float)},
                           {plan.top_tokens, top_count * sizeof(int32_t)},
                           {plan.top_logprobs, top_count * sizeof(float)}};
  const Range inputs[] = {{plan.logits, logit_count * sizeof(float)},
                          {plan.params, args.rows * sizeof(apiq_sample_params)},
                          {plan.history, uint64_t{plan.history_rows} * plan.history_cols * sizeof(int32_t)},
                          {plan.bias, plan.bias_capacity * sizeof(apiq_token_bias)},
                          {plan.masks, plan.mask_rows * plan.mask_words() * sizeof(uint32_t)}};
  for (const Range& output : outputs) {
    for (const Range& input : inputs) {
      if (output.data != nullptr && input.data != nullptr) {
        require_apart(output.data, output.bytes, input.data, input.bytes, "an output and an input");
      }
    }
    for (const Range* other = outputs; other != &output; other++) {
      if (output.data != nullptr && other->data != nullptr) {
        require_apart(output.data, output.bytes, other->data, other->bytes, "two outputs");
      }
    }
  }
  return plan;
}

const char* sample_params_fault(const apiq_sample_params& params, const SamplePlan& plan) {
  // Written so that a NaN fails each of them.
  if (!(params.temperature >= 0 && std::isfinite(params.temperature))) return "temperature: expected a finite number of at least 0";
  if (!(params.top_p > 0 && params.top_p <= 1)) return "top_p: expected a number above 0 and at most 1";
  if (!(params.min_p >= 0 && params.min_p <= 1)) return "min_p: expected a number from 0 to 1";
  if (params.top_k < 0) return "top_k: expected at least 0";
  if (!(params.repetition_penalty > 0 && std::isfinite(params.repetition_penalty))) {
    return "repetition_penalty: expected a finite number above 0";
  }
  if (!std::isfinite(params.presence_penalty)) return "presence_penalty: expected a finite number";
  if (!std::isfinite(params.frequency_penalty)) return "frequency_penalty: expected a finite number";
  if (params.history_row == -1) {
    if (params.repetition_penalty != 1 || params.presence_penalty != 0 || params.frequency_penalty != 0) {
      return "history_row: a penalty needs a history";
    }
  } else if (params.history_row < 0 || static_cast<uint32_t>(params.history_row) >= plan.history_rows) {
    return "history_row: expected -1 or a row of history";
  } else if (params.prompt_tokens < 0 || params.history_tokens < params.prompt_tokens ||
             static_cast<uint32_t>(params.history_tokens) > plan.history_cols) {
    return "history_tokens: expected 0 <= prompt_tokens <= history_tokens <= history_cols";
  }
  if (params.bias_count < 0 || (params.bias_count > 0 && (params.bias_first < 0 || uint64_t(params.bias_first) + uint64_t(params.bias_count) >
                                                                                       plan.bias_capacity))) {
    return "bias_first, bias_count: expected a range inside bias";
  }
  if (params.mask_row != -1 && (params.mask_row < 0 || static_cast<uint32_t>(params.mask_row) >= plan.mask_rows)) {
    return "mask_row: expected -1 or a row of masks";
  }
  if (params.n_top < 0 || static_cast<uint32_t>(params.n_top) > plan.max_top) return "n_top: expected 0 to max_top";
  return nullptr;
}

}  // namespace apiq
