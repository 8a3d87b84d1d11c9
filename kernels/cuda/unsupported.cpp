// The ops of apiq.h that this library does not have yet. Each says so; none falls back to the CPU. Removing a line from the table
// and writing the op are one change.
#include "context.h"

namespace {

apiq_status refuse(uint64_t context, const char* op) {
  return apiq::cuda::enter(context, [&](apiq::cuda::Context&) {
    apiq::fail(APIQ_UNSUPPORTED, "not implemented by libapiq_cuda yet: %s", op);
  });
}

}  // namespace

#define APIQ_NOT_YET(op) \
  apiq_status apiq_##op(uint64_t context, const apiq_##op##_args*) { return refuse(context, #op); }

extern "C" {

APIQ_NOT_YET(lora)
APIQ_NOT_YET(token_nll)
APIQ_NOT_YET(sample)

APIQ_NOT_YET(gemm)
APIQ_NOT_YET(scale_columns)
APIQ_NOT_YET(dot_columns)
APIQ_NOT_YET(scale_rows)
APIQ_NOT_YET(dot_rows)
APIQ_NOT_YET(row_norms)
APIQ_NOT_YET(rms_norm_backward)
APIQ_NOT_YET(rms_norm_weight_backward)
APIQ_NOT_YET(silu_mul_backward)
APIQ_NOT_YET(dropout)
APIQ_NOT_YET(causal_attention)
APIQ_NOT_YET(causal_attention_backward)
APIQ_NOT_YET(mse_loss)
APIQ_NOT_YET(token_nll_backward)
APIQ_NOT_YET(top_log_probs)
APIQ_NOT_YET(teacher_kl)
APIQ_NOT_YET(teacher_kl_backward)
APIQ_NOT_YET(sum_squares)
APIQ_NOT_YET(adamw)
APIQ_NOT_YET(adamw_8bit)
APIQ_NOT_YET(group_range)
APIQ_NOT_YET(clip_range)
APIQ_NOT_YET(clip_range_backward)
APIQ_NOT_YET(fake_quantize)
APIQ_NOT_YET(fake_quantize_backward)
APIQ_NOT_YET(cholesky)
APIQ_NOT_YET(triangular_inverse)
APIQ_NOT_YET(gptq_quantize)

apiq_status apiq_measure_bandwidth(uint64_t context, uint64_t, uint32_t, double*) { return refuse(context, "measure_bandwidth"); }

}  // extern "C"
