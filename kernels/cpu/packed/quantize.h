// Quantizes activations into an ActivationBlock. Plain loops that the compiler turns into each instruction set's vectors: maxima and
// sums are of integers and every float operation is elementwise, so all sets agree.
#pragma once

#include <bit>
#include <cstring>
#include <limits>

#include "kernels.h"

namespace apiq::cpu::APIQ_ISA {

struct GroupScale {
  float scale;
  float inverse;
};

static inline GroupScale group_scale(uint32_t magnitude_bits) {
  const float magnitude = std::bit_cast<float>(magnitude_bits);
  if (magnitude_bits >= 0x7f800000u) return {std::numeric_limits<float>::quiet_NaN(), 0.0f};
  if (magnitude < 0x1p-100f) return {0.0f, 0.0f};
  return {magnitude / 127.0f, 127.0f / magnitude};
}

static void quantize(const float* x, uint64_t stride, uint32_t group, uint32_t first_group, uint32_t end_group, const ActivationBlock& block) {
  // Adding 1.5 * 2^23 leaves the value, rounded to nearest even, in the low bits of the sum.
  constexpr float rounder = 12582912.0f;
  for (uint32_t t = 0; t < block.tokens; t++) {
    for (uint32_t g = first_group; g < end_group; g++) {
      const float* const values = x + t * stride + uint64_t{g} * group;
      int32_t magnitude_bits = 0;
      for (uint32_t i = 0; i < group; i++) {
        const int32_t bits = std::bit_cast<int32_t>(values[i]) & 0x7fffffff;
        magnitude_bits = bits > magnitude_bits ? bits : magnitude_bits;
      }
      const GroupScale scale = group_scale(static_cast<uint32_t>(magnitude_bits));
      alignas(64) int8_t q[max_group];
      int32_t sum = 0;
      if (scale.inverse == 0.0f) {
        std::memset(q, 0, sizeof q);
      } else {
        const int32_t base = std::bit_cast<int32_t>(rounder);
        alignas(64) int32_t rounded[max_group];
        for (uint32_t i = 0; i < group; i++) {
          rounded[i] = std::bit_cast<int32_t>(values[i] * scale.inverse + rounder) - base;
          sum += rounded[i];
        }
        for (uint32_t i = 0; i < group; i++) q[i] = static_cast<int8_t>(rounded[i]);
      }
      int8_t* const target = block.q + (uint64_t{g} * group * block.tokens + 4 * t);
      for (uint32_t i = 0; i < group; i += 4) std::memcpy(target + uint64_t{i} * block.tokens, q + i, 4);
      block.scale[g * block.tokens + t] = scale.scale;
      block.negative_sum[g * block.tokens + t] = -sum;
      block.scaled_sum[g * block.tokens + t] = static_cast<float>(sum) * scale.scale;
    }
  }
}

}  // namespace apiq::cpu::APIQ_ISA
