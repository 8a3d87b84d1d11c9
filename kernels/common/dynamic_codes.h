// The values of 8-bit numbers by dynamic quantization (Dettmers et al., arXiv 2110.02861), in ascending order: 0, 1, and in each of
// seven decades the centres of equal parts, twice as many in a decade as in the one below.
#pragma once

#include <cstdint>

namespace apiq {

struct DynamicCodes {
  float value[256];
  uint32_t zero;  // the code of 0
};

// A decade's parts: 2^(6 - e) of 10^-e for signed codes, twice that for unsigned.
constexpr DynamicCodes dynamic_codes(bool is_signed) {
  DynamicCodes codes{};
  codes.zero = is_signed ? 127 : 0;
  uint32_t n = codes.zero;
  codes.value[n++] = 0;
  double decade = 1e-6;
  for (uint32_t parts = is_signed ? 1 : 2; n < 255; parts *= 2, decade *= 10) {
    for (uint32_t i = 0; i < parts; i++) codes.value[n++] = static_cast<float>((0.1 + 0.9 * (i + 0.5) / parts) * decade);
  }
  codes.value[255] = 1;
  for (uint32_t i = 0; i < codes.zero; i++) codes.value[i] = -codes.value[254 - i];
  return codes;
}

}  // namespace apiq
