// interleave() of pack.h with AVX, for AVX2 and AVX-512 alike: the transpose of 8 x 8 elements in three rounds of shuffles.
#pragma once

#include <cstdint>

namespace apiq::cpu::APIQ_ISA {
namespace {

// Writes the first `count` of 8 elements and no others: what follows may be another thread's panel.
template <uint32_t count>
[[gnu::always_inline]] inline void put_first(float* to, __m256 v) {
  static_assert(count == 4 || count == 6 || count == 8);
  if constexpr (count == 8) {
    _mm256_storeu_ps(to, v);
  } else {
    _mm_storeu_ps(to, _mm256_castps256_ps128(v));
    if constexpr (count == 6) _mm_storel_pi(reinterpret_cast<__m64*>(to + 4), _mm256_extractf128_ps(v, 1));
  }
}

template <uint32_t count>
[[gnu::always_inline]] inline void interleave(const float* source, uint64_t line_stride, float* packed, uint64_t width) {
  __m256 line[8], pair[8], four[8];
#pragma GCC unroll 8
  for (uint32_t i = 0; i < 8; i++) line[i] = i < count ? _mm256_loadu_ps(source + i * line_stride) : _mm256_setzero_ps();
#pragma GCC unroll 4
  for (uint32_t i = 0; i < 8; i += 2) {
    pair[i] = _mm256_unpacklo_ps(line[i], line[i + 1]);  // elements 0 1 | 4 5 of two lines
    pair[i + 1] = _mm256_unpackhi_ps(line[i], line[i + 1]);  // 2 3 | 6 7
  }
#pragma GCC unroll 2
  for (uint32_t i = 0; i < 8; i += 4) {
    four[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);  // element 0 | 4 of four lines
    four[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xee);
    four[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
    four[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (uint32_t p = 0; p < 4; p++) {
    put_first<count>(packed + p * width, _mm256_permute2f128_ps(four[p], four[p + 4], 0x20));
    put_first<count>(packed + (p + 4) * width, _mm256_permute2f128_ps(four[p], four[p + 4], 0x31));
  }
}

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
