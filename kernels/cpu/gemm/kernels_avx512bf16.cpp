#if defined(__x86_64__)
#define APIQ_ISA avx512bf16
#include "../isa/vec16_avx512.h"

namespace apiq::cpu::avx512bf16 {
// 24 of the 32 registers are sums.
inline constexpr uint32_t tile_rows = 8;
inline constexpr uint32_t tile_vectors = 3;
}  // namespace apiq::cpu::avx512bf16

#include "bf16_pairs.h"

namespace apiq::cpu::avx512bf16 {

const PanelKernels bf16_kernels = {
    .tile_rows = tile_rows,
    .tile_cols = tile_vectors * vec_lanes,
    .terms = 2,
    .terms_words = 1,
    .pack_rows = pack_pairs<tile_rows>,
    .pack_cols = pack_pairs<tile_vectors * vec_lanes>,
    .multiply = multiply<PairChains>,
};

}  // namespace apiq::cpu::avx512bf16
#endif
