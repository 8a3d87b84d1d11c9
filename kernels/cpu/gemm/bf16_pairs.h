// APIQ_COMPUTE_BF16 with AVX-512 BF16: two neighbours of k share a word, and one VDPBF16PS multiplies and adds both, 64 operations
// an instruction. The same registers, tiles and panels as float32 then hold twice the terms.
#pragma once

#include "multiply.h"

namespace apiq::cpu::APIQ_ISA {
namespace {

struct PairStep {
  static Vec16 add(Vec16 sum, Vec16 element, Vec16 column) {
    return {_mm512_dpbf16_ps(sum.v, (__m512bh)element.v, (__m512bh)column.v)};
  }
};

struct PairChains {
  template <uint32_t R, uint32_t V>
  [[gnu::always_inline]] static void run(uint32_t words, const float* a, const float* b, Vec16 (&sums)[R][V]) {
    products<R, V, PairStep>(words, a, 1, tile_rows, b, tile_vectors * vec_lanes, sums);
  }
};

// Of 16 lanes from `first` on, those below `end`.
inline __mmask16 lanes_below(uint32_t first, uint32_t end) {
  if (first >= end) return 0;
  return end - first < vec_lanes ? first_lanes(end - first) : static_cast<__mmask16>(0xffff);
}

// Elements of a line lie side by side. 16 elements of each of 8 lines, 8 words a line, are transposed as in interleave_avx.h.
// Whatever is missing of them is 0.
inline void pack_pairs_of_lines(const PanelSource& from, uint32_t first, uint32_t p, float* packed, uint64_t width) {
  __m256 line[8], pair[8], four[8];
  const __mmask16 there = lanes_below(p, from.k);
#pragma GCC unroll 8
  for (uint32_t i = 0; i < 8; i++) {
    const __mmask16 mask = first + i < from.lines ? there : __mmask16{0};
    const __m512 terms = _mm512_maskz_loadu_ps(mask, from.source + (first + i) * from.line_stride + p);
    line[i] = (__m256)_mm512_cvtneps_pbh(terms);
  }
#pragma GCC unroll 4
  for (uint32_t i = 0; i < 8; i += 2) {
    pair[i] = _mm256_unpacklo_ps(line[i], line[i + 1]);
    pair[i + 1] = _mm256_unpackhi_ps(line[i], line[i + 1]);
  }
#pragma GCC unroll 2
  for (uint32_t i = 0; i < 8; i += 4) {
    four[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
    four[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xee);
    four[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
    four[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xee);
  }
  const uint32_t words = from.words - p / 2 < 8 ? from.words - p / 2 : 8;
#pragma GCC unroll 8
  for (uint32_t w = 0; w < 8; w++) {
    const __m256 low = four[w % 4], high = four[w % 4 + 4];
    const __m256 row = w < 4 ? _mm256_permute2f128_ps(low, high, 0x20) : _mm256_permute2f128_ps(low, high, 0x31);
    if (w < words) _mm256_storeu_ps(packed + w * width, row);
  }
}

// Neighbouring lines lie side by side: elements p and p + 1 of 16 of them, as 16 words.
inline __m512 pairs_of_columns(const PanelSource& from, uint32_t first, uint32_t p) {
  const __m512i low_and_high = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,  //
                                                23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const __mmask16 there = lanes_below(first, from.lines);
  const float* const even = from.source + first + p * from.k_stride;
  const __mmask16 odd_there = p + 1 < from.k ? there : __mmask16{0};
  const __m512bh halves =
      _mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(odd_there, even + from.k_stride), _mm512_maskz_loadu_ps(there, even));
  return _mm512_castsi512_ps(_mm512_permutexvar_epi16(low_and_high, (__m512i)halves));
}

template <uint32_t width>
void pack_pairs(const PanelSource& from, float* packed) {
  static_assert(width == 8 || width % 16 == 0);
  const uint64_t panel_words = uint64_t{from.words} * width;
  const uint32_t lines = (from.lines + width - 1) / width * width;
  if (from.k_stride == 1) {
    for (uint32_t first = 0; first < lines; first += 8) {
      float* const to = packed + first / width * panel_words + first % width;
      for (uint32_t p = 0; p < from.k; p += 16) pack_pairs_of_lines(from, first, p, to + uint64_t{p} / 2 * width, width);
    }
    return;
  }
  for (uint32_t p = 0; p < from.k; p += 2) {
    float* const row = packed + uint64_t{p} / 2 * width;
    for (uint32_t first = 0; first < lines; first += 16) {
      const __m512 words = pairs_of_columns(from, first, p);
      float* const to = row + first / width * panel_words + first % width;
      if constexpr (width == 8) {
        _mm256_storeu_ps(to, _mm512_castps512_ps256(words));
        if (first + 8 < lines) _mm256_storeu_ps(to + panel_words, _mm512_extractf32x8_ps(words, 1));
      } else {
        _mm512_storeu_ps(to, words);
      }
    }
  }
}

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
