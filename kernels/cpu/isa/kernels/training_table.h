// Instantiates every training kernel for the instruction set whose vec16 header was included before.
#pragma once

#include "../training_kernels.h"
#include "adamw.h"
#include "backward.h"
#include "columns.h"
#include "dropout.h"
#include "losses.h"
#include "quantizer.h"

namespace apiq::cpu::APIQ_ISA {

const TrainingKernels training_kernels = {
    .multiply = multiply,
    .dot_columns = dot_columns,
    .scale_rows = scale_rows,
    .dot_rows = dot_rows,
    .sum_squares = sum_squares,
    .dropout = dropout,
    .rms_norm_backward = rms_norm_backward,
    .rms_norm_weight_backward = rms_norm_weight_backward,
    .silu_mul_backward = silu_mul_backward,
    .mse = mse,
    .softmax = softmax,
    .largest_value = largest_value_of,
    .exp_sum = exp_sum,
    .add_exps = add_exps,
    .adamw = adamw,
    .group_range = group_range,
    .clip_range = clip_range,
    .clip_range_backward = clip_range_backward,
    .fake_quantize = fake_quantize,
    .fake_quantize_backward = fake_quantize_backward,
};

}  // namespace apiq::cpu::APIQ_ISA
