// Ops of apiq_training.h that are not written yet.
#include "../core/context.h"

#define APIQ_NOT_YET(op)                                                              \
  extern "C" apiq_status apiq_##op(uint64_t context, const apiq_##op##_args*) {        \
    return apiq::cpu::enter(context, [](apiq::cpu::Context&) { apiq::fail(APIQ_UNSUPPORTED, "not written yet: %s", #op); }); \
  }

APIQ_NOT_YET(gemm)
APIQ_NOT_YET(scale_columns)
APIQ_NOT_YET(dot_columns)
APIQ_NOT_YET(row_norms)
APIQ_NOT_YET(rms_norm_backward)
APIQ_NOT_YET(silu_mul_backward)
APIQ_NOT_YET(causal_attention)
APIQ_NOT_YET(causal_attention_backward)
APIQ_NOT_YET(mse_loss)
APIQ_NOT_YET(token_nll_backward)
APIQ_NOT_YET(sum_squares)
APIQ_NOT_YET(adamw)
APIQ_NOT_YET(group_range)
APIQ_NOT_YET(clip_range)
APIQ_NOT_YET(clip_range_backward)
APIQ_NOT_YET(fake_quantize)
APIQ_NOT_YET(fake_quantize_backward)
APIQ_NOT_YET(cholesky)
APIQ_NOT_YET(triangular_inverse)
APIQ_NOT_YET(gptq_quantize)
