// Instantiates the kernels for the instruction set whose vec16 header, tile_rows and tile_vectors were given before.
#pragma once

#include "causal_backward.h"
#include "causal_forward.h"
#include "kernels.h"
#include "multiply.h"
#include "pack.h"

namespace apiq::cpu::APIQ_ISA {

const GemmKernels gemm_kernels = {
    .tile_rows = tile_rows,
    .tile_cols = tile_vectors * vec_lanes,
    .pack_rows = pack<tile_rows>,
    .pack_cols = pack<tile_vectors * vec_lanes>,
    .multiply = multiply,
    .causal_forward = causal_forward,
    .causal_backward = causal_backward,
};

}  // namespace apiq::cpu::APIQ_ISA
