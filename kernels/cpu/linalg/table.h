// Instantiates the kernels for the instruction set whose vec16 header was included before.
#pragma once

#include "kernels.h"
#include "factor.h"
#include "gptq.h"

namespace apiq::cpu::APIQ_ISA {

const LinalgKernels linalg_kernels = {
    .subtract_products = subtract_products,
    .solve_row = solve_row,
    .gptq_range = gptq_range,
    .gptq_columns = gptq_columns,
    .gptq_update = gptq_update,
};

}  // namespace apiq::cpu::APIQ_ISA
