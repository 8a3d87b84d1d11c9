// Instantiates every kernel for the instruction set whose vec16 header was included before.
#pragma once

#include "../float_kernels.h"
#include "attention.h"
#include "elementwise.h"
#include "logits.h"
#include "lora.h"
#include "rows.h"

namespace apiq::cpu::APIQ_ISA {

const FloatKernels float_kernels = {
    .widen = {widen_row<float>, widen_row<f16>, widen_row<bf16>},
    .rms_norm = rms_norm,
    .rotary = rotary,
    .kv_store = {kv_store<float>, kv_store<f16>},
    .attention = {attention<float>, attention<f16>},
    .lora_down = {lora_down<float>, lora_down<f16>},
    .lora_up = {lora_up<float>, lora_up<f16>},
    .silu_mul = silu_mul,
    .add = add_arrays,
    .statistics = statistics,
    .largest = largest,
    .top = top,
    .weigh = weigh,
};

}  // namespace apiq::cpu::APIQ_ISA
