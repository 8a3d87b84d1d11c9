// Words as one AVX-512 register. The interface is described in words_scalar.h.
#pragma once

#include <cstddef>

#include "../isa/vec16_avx512.h"

namespace apiq::cpu::avx512 {

struct Words {
  __m512i v;
};

inline Words load_words(const void* p) { return {_mm512_load_si512(p)}; }
inline Words spread(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  const __m128i four = _mm_setr_epi32(static_cast<int>(a), static_cast<int>(b), static_cast<int>(c), static_cast<int>(d));
  return {_mm512_permutexvar_epi32(_mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3), _mm512_castsi128_si512(four))};
}
inline Words shift_right(Words w, uint32_t n) { return {_mm512_srli_epi32(w.v, n)}; }
inline Words shift_right(Words w, Words counts) { return {_mm512_srlv_epi32(w.v, counts.v)}; }
inline Words shift_left(Words w, uint32_t n) { return {_mm512_slli_epi32(w.v, n)}; }
inline Words keep(Words w, uint32_t mask) { return {_mm512_and_si512(w.v, _mm512_set1_epi32(static_cast<int>(mask)))}; }
inline Words either(Words a, Words b) { return {_mm512_or_si512(a.v, b.v)}; }
inline Words minus(Words a, Words b) { return {_mm512_sub_epi32(a.v, b.v)}; }
inline Words merge(uint32_t mask, Words a, Words b) {
  return {_mm512_ternarylogic_epi32(_mm512_set1_epi32(static_cast<int>(mask)), a.v, b.v, 0xca)};
}
inline Vec16 to_float(Words w) { return {_mm512_cvtepi32_ps(w.v)}; }

inline constexpr uint32_t affine_tokens = 8;
inline constexpr uint32_t lut_row_tokens = 4;
inline constexpr uint32_t lut_tokens = 8;

template <uint32_t bits>
struct Table {
  __m512 entries;
};
template <uint32_t bits>
inline Table<bits> load_table(const float* p) {
  return {_mm512_load_ps(p)};
}
template <uint32_t bits>
inline Vec16 look_up(const Table<bits>& table, Words w) {
  return {_mm512_permutexvar_ps(w.v, table.entries)};
}

}  // namespace apiq::cpu::avx512
