#pragma once

#include "checks.h"

namespace apiq {

struct SamplePlan {
  const float* logits;                // [rows, vocab]
  const apiq_sample_params* params;   // [rows]
  const int32_t* history;             // [history_rows, history_cols] or null
  const apiq_token_bias* bias;        // [bias_capacity] or null
  const uint32_t* masks;              // [mask_rows, ceil(vocab / 32)] or null
  int32_t* tokens;                    // [rows]
  float* logprobs;                    // [rows]
  int32_t* top_tokens;                // [rows, max_top] or null
  float* top_logprobs;                // [rows, max_top] or null
  uint32_t rows;
  uint32_t vocab;
  uint32_t history_rows;  // 0 where history is null; likewise below
  uint32_t history_cols;
  uint32_t bias_capacity;
  uint32_t mask_rows;
  uint32_t max_top;

  uint64_t mask_words() const { return (uint64_t{vocab} + 31) / 32; }
};

SamplePlan plan(ContextBase& context, const apiq_sample_args& args);

// What is wrong with a row's parameters, naming the field (null: nothing). They are data, checked when the op runs.
const char* sample_params_fault(const apiq_sample_params& params, const SamplePlan& plan);

}  // namespace apiq
