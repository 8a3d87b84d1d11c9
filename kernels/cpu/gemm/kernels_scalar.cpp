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

// One half of VDPBF16PS, the oracle of the others: sum + a b, rounded once, and 0 where that is subnormal. It is where rounding to
// 24 bits with an unbounded exponent gives less than 2^-126. So a result that is 2^-126 here counts as subnormal if it was below
// 2^-126 - 2^-151, half way to the next such number. Sums that come so close to it are exact in double precision, or far from half
// way.
struct Bf16Step {
  static float add(float sum, float a, float b) {
    constexpr float least_normal = 0x1p-126f;
    const float result = __builtin_fmaf(a, b, sum);
    const float magnitude = __builtin_fabsf(result);
    const auto exact = [&] { return static_cast<double>(a) * static_cast<double>(b) + static_cast<double>(sum); };
    const bool subnormal =
        magnitude < least_normal || (magnitude == least_normal && __builtin_fabs(exact()) < 0x1p-126 - 0x1p-151);
    return subnormal ? __builtin_copysignf(0.0f, result) : result;
  }
  static Vec16 add(Vec16 sum, Vec16 element, Vec16 column) {
    return lanes::map([&](int i) { return add(sum.lane[i], element.lane[i], column.lane[i]); });
  }
};
struct SubnormalsAreZero {};  // the steps flush by themselves
}  // namespace apiq::cpu::scalar

#include "table.h"
