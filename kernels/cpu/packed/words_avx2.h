// Words as two AVX registers. The interface is described in words_scalar.h.
#pragma once

#include <cstddef>

#include "../isa/vec16_avx2.h"

namespace apiq::cpu::avx2 {

struct Words {
  __m256i lo;
  __m256i hi;
};

inline Words load_words(const void* p) {
  const __m256i* const halves = static_cast<const __m256i*>(p);
  return {_mm256_load_si256(halves), _mm256_load_si256(halves + 1)};
}
inline Words spread(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  const auto pair = [](uint32_t low, uint32_t high) {
    return _mm256_set_m128i(_mm_set1_epi32(static_cast<int>(high)), _mm_set1_epi32(static_cast<int>(low)));
  };
  return {pair(a, b), pair(c, d)};
}
inline Words shift_right(Words w, uint32_t n) {
  const int count = static_cast<int>(n);
  return {_mm256_srli_epi32(w.lo, count), _mm256_srli_epi32(w.hi, count)};
}
inline Words shift_right(Words w, Words counts) { return {_mm256_srlv_epi32(w.lo, counts.lo), _mm256_srlv_epi32(w.hi, counts.hi)}; }
inline Words shift_left(Words w, uint32_t n) {
  const int count = static_cast<int>(n);
  return {_mm256_slli_epi32(w.lo, count), _mm256_slli_epi32(w.hi, count)};
}
inline Words keep(Words w, uint32_t mask) {
  const __m256i all = _mm256_set1_epi32(static_cast<int>(mask));
  return {_mm256_and_si256(w.lo, all), _mm256_and_si256(w.hi, all)};
}
inline Words either(Words a, Words b) { return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)}; }
inline Words minus(Words a, Words b) { return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)}; }
inline Words merge(uint32_t mask, Words a, Words b) {
  const __m256i first = _mm256_set1_epi32(static_cast<int>(mask));
  const auto half = [&](__m256i x, __m256i y) { return _mm256_xor_si256(_mm256_and_si256(_mm256_xor_si256(x, y), first), y); };
  return {half(a.lo, b.lo), half(a.hi, b.hi)};
}
inline Vec16 to_float(Words w) { return {_mm256_cvtepi32_ps(w.lo), _mm256_cvtepi32_ps(w.hi)}; }

inline constexpr uint32_t affine_tokens = 4;
inline constexpr uint32_t lut_row_tokens = 2;
inline constexpr uint32_t lut_tokens = 3;

// 8 entries a register: a table of 4 bits takes two, and bit 3 chooses between what they give.
template <uint32_t bits>
struct Table {
  __m256 first;
  __m256 second;
};
template <uint32_t bits>
inline Table<bits> load_table(const float* p) {
  return {_mm256_load_ps(p), _mm256_load_ps(p + 8)};
}
template <uint32_t bits>
inline __m256 look_up_half(const Table<bits>& table, __m256i w) {
  const __m256 first = _mm256_permutevar8x32_ps(table.first, w);
  if constexpr (bits < 4) return first;
  const __m256 choice = _mm256_castsi256_ps(_mm256_slli_epi32(w, 28));
  return _mm256_blendv_ps(first, _mm256_permutevar8x32_ps(table.second, w), choice);
}
template <uint32_t bits>
inline Vec16 look_up(const Table<bits>& table, Words w) {
  return {look_up_half(table, w.lo), look_up_half(table, w.hi)};
}

}  // namespace apiq::cpu::avx2
