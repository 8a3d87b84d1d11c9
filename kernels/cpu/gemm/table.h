// Instantiates the kernels for the instruction set whose vec16 header, tile_rows and tile_vectors were given before.
#pragma once

#include "bf16_as_f32.h"
#include "causal_backward.h"
#include "causal_forward.h"
#include "kernels.h"
#include "multiply.h"
#include "pack.h"

namespace apiq::cpu::APIQ_ISA {

const GemmKernels gemm_kernels = {
    .f32 = {.tile_rows = tile_rows,
            .tile_cols = tile_vectors * vec_lanes,
            .terms = 1,
            .terms_words = 1,
            .pack_rows = pack<tile_rows>,
            .pack_cols = pack<tile_vectors * vec_lanes>,
            .multiply = multiply<F32Chains>},
    .bf16 = {.tile_rows = tile_rows,
             .tile_cols = tile_vectors * vec_lanes,
             .terms = 2,
             .terms_words = 2,
             .pack_rows = pack_rounded<tile_rows>,
             .pack_cols = pack_rounded<tile_vectors * vec_lanes>,
             .multiply = multiply<FlushedChains>},
    .causal_forward = causal_forward,
    .causal_backward = causal_backward,
};

}  // namespace apiq::cpu::APIQ_ISA
