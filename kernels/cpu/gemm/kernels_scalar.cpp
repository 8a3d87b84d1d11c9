#include "../isa/vec16_scalar.h"

namespace apiq::cpu::scalar {
inline constexpr uint32_t tile_rows = 4;
inline constexpr uint32_t tile_vectors = 1;

template <uint32_t count>
static void interleave(const float* source, uint64_t line_stride, float* packed, uint64_t width) {
  for (uint32_t p = 0; p < 8; p++) {
    for (uint32_t i = 0; i < count; i++) packed[p * width + i] = source[i * line_stride + p];
  }
}
}  // namespace apiq::cpu::scalar

#include "table.h"
