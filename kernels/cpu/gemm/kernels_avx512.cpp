#if defined(__x86_64__)
#include "../isa/vec16_avx512.h"

namespace apiq::cpu::avx512 {
// 24 of the 32 registers are sums.
inline constexpr uint32_t tile_rows = 8;
inline constexpr uint32_t tile_vectors = 3;
}  // namespace apiq::cpu::avx512

#include "interleave_avx.h"
#include "flush_avx.h"
#include "table.h"
#endif
