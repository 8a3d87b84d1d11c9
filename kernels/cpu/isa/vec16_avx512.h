// Vec16 as one AVX-512 register. The interface is described in vec16_scalar.h. A set that has more gives its APIQ_ISA before.
#pragma once

#ifndef APIQ_ISA
#define APIQ_ISA avx512
#endif

// g++ 12 takes the intrinsics' own undefined registers for uninitialised variables.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

#include <cstdint>

#include "../../common/half.h"

namespace apiq::cpu::APIQ_ISA {

struct Vec16 {
  __m512 v;
};

// Half of the 32 registers; the rest hold operands.
inline constexpr uint32_t accumulators = 16;

inline __mmask16 first_lanes(uint32_t n) { return static_cast<__mmask16>((1u << n) - 1u); }

inline Vec16 zero() { return {_mm512_setzero_ps()}; }
inline Vec16 broadcast(float x) { return {_mm512_set1_ps(x)}; }

inline Vec16 widen(__m256i halves, f16) { return {_mm512_cvtph_ps(halves)}; }
inline Vec16 widen(__m256i halves, bf16) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16))};
}
inline Vec16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline Vec16 load_n(const float* p, uint32_t n) { return {_mm512_maskz_loadu_ps(first_lanes(n), p)}; }
template <class Half>
inline Vec16 load(const Half* p) {
  return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), Half{});
}
template <class Half>
inline Vec16 load_n(const Half* p, uint32_t n) {
  return widen(_mm256_maskz_loadu_epi16(first_lanes(n), p), Half{});
}

inline __m256i narrow(Vec16 v) { return _mm512_cvtps_ph(v.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline void store(float* p, Vec16 v) { _mm512_storeu_ps(p, v.v); }
inline void store_n(float* p, Vec16 v, uint32_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), v.v); }
inline void store(f16* p, Vec16 v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(v)); }
inline void store_n(f16* p, Vec16 v, uint32_t n) { _mm256_mask_storeu_epi16(p, first_lanes(n), narrow(v)); }

inline Vec16 add(Vec16 a, Vec16 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec16 sub(Vec16 a, Vec16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec16 mul(Vec16 a, Vec16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec16 div(Vec16 a, Vec16 b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Vec16 min(Vec16 a, Vec16 b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vec16 max(Vec16 a, Vec16 b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec16 fma(Vec16 a, Vec16 b, Vec16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }

inline uint32_t less(Vec16 a, Vec16 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ); }
inline Vec16 select(uint32_t mask, Vec16 a, Vec16 b) {
  return {_mm512_mask_blend_ps(static_cast<__mmask16>(mask), b.v, a.v)};
}

inline float sum(Vec16 v) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v.v), _mm512_extractf32x8_ps(v.v, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float maximum(Vec16 v) {
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(v.v), _mm512_extractf32x8_ps(v.v, 1));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

inline Vec16 square_root(Vec16 v) { return {_mm512_sqrt_ps(v.v)}; }
inline Vec16 round_even(Vec16 v) {
  return {_mm512_roundscale_ps(v.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

inline Vec16 round_bf16(Vec16 v) {
  const __m512i bits = _mm512_castps_si512(v.v);
  const __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff));
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i nearest = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  const __mmask16 nan = _mm512_cmpgt_epi32_mask(magnitude, _mm512_set1_epi32(0x7f800000));
  const __mmask16 normal = _mm512_cmpge_epi32_mask(magnitude, _mm512_set1_epi32(0x800000));
  const __m512i rounded = _mm512_mask_or_epi32(nearest, nan, bits, _mm512_set1_epi32(0x400000));
  const __m512i sign = _mm512_and_si512(bits, _mm512_set1_epi32(INT32_MIN));
  return {_mm512_castsi512_ps(_mm512_mask_and_epi32(sign, normal, rounded, _mm512_set1_epi32(-0x10000)))};
}

inline void store_bytes(uint8_t* p, Vec16 v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v.v)));
}
inline void store_bytes_n(uint8_t* p, Vec16 v, uint32_t n) {
  _mm_mask_storeu_epi8(p, first_lanes(n), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v.v)));
}

struct Double16 {
  __m512d lo;
  __m512d hi;
};

inline __m512d low_doubles(Vec16 v) { return _mm512_cvtps_pd(_mm512_castps512_ps256(v.v)); }
inline __m512d high_doubles(Vec16 v) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(v.v, 1)); }
inline Double16 zero_sums() { return {_mm512_setzero_pd(), _mm512_setzero_pd()}; }
inline Double16 load_sums(const double* p) { return {_mm512_loadu_pd(p), _mm512_loadu_pd(p + 8)}; }
inline void store_sums(double* p, Double16 s) {
  _mm512_storeu_pd(p, s.lo);
  _mm512_storeu_pd(p + 8, s.hi);
}
inline Double16 add_to(Double16 s, Vec16 v) {
  return {_mm512_add_pd(s.lo, low_doubles(v)), _mm512_add_pd(s.hi, high_doubles(v))};
}
inline Double16 add_product(Double16 s, Vec16 a, Vec16 b) {
  return {_mm512_fmadd_pd(low_doubles(a), low_doubles(b), s.lo), _mm512_fmadd_pd(high_doubles(a), high_doubles(b), s.hi)};
}
inline double sum(Double16 s) {
  const __m512d eight = _mm512_add_pd(s.lo, s.hi);
  const __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd(eight, 1));
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

struct Words16 {
  __m512i v;
};
struct WideWords16 {
  Words16 high;
  Words16 low;
};

inline Words16 broadcast_words(uint32_t word) { return {_mm512_set1_epi32(static_cast<int>(word))}; }
inline Words16 count_from(uint32_t first) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return {_mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(first)), lanes)};
}
inline Words16 xor_words(Words16 a, Words16 b) { return {_mm512_xor_si512(a.v, b.v)}; }
inline WideWords16 multiply_wide(Words16 a, uint32_t by) {
  const __m512i all = _mm512_set1_epi32(static_cast<int>(by));
  const __m512i even = _mm512_mul_epu32(a.v, all);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a.v, 32), all);
  return {{_mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd)},
          {_mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32))}};
}
inline uint32_t at_least(Words16 a, int shift, uint32_t least) {
  const __m512i value = _mm512_and_si512(_mm512_srli_epi32(a.v, static_cast<unsigned>(shift)), _mm512_set1_epi32(0xffff));
  return _mm512_cmpge_epu32_mask(value, _mm512_set1_epi32(static_cast<int>(least)));
}

inline Vec16 scale_by_power_of_2(Vec16 v, Vec16 t) {
  const __m512i n = _mm512_sub_epi32(_mm512_castps_si512(t.v), _mm512_set1_epi32(0x4b400000));
  const __m512i first = _mm512_srai_epi32(n, 1);
  const __m512i second = _mm512_sub_epi32(n, first);
  const __m512i bias = _mm512_set1_epi32(127);
  const __m512 a = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(first, bias), 23));
  const __m512 b = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(second, bias), 23));
  return {_mm512_mul_ps(_mm512_mul_ps(v.v, a), b)};
}

}  // namespace apiq::cpu::APIQ_ISA

#include "vec16_math.h"
