#if defined(__x86_64__)
#include "../isa/vec16_avx2.h"

namespace apiq::cpu::avx2 {
// 12 of the 16 registers are sums.
inline constexpr uint32_t tile_rows = 6;
inline constexpr uint32_t tile_vectors = 1;
}  // namespace apiq::cpu::avx2

#include "interleave_avx.h"
#include "flush_avx.h"
#include "table.h"
#endif
