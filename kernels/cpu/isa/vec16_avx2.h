// Vec16 as two AVX registers, lanes 0..7 and 8..15. The interface is described in vec16_scalar.h.
#pragma once

#define APIQ_ISA avx2

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "../../common/half.h"

namespace apiq::cpu::avx2 {

struct Vec16 {
  __m256 lo;
  __m256 hi;
};

// Half of the 16 registers; the rest hold operands.
inline constexpr uint32_t accumulators = 4;

// All ones in the lanes below n; n may be negative or above 8.
inline __m256i first_lanes(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline Vec16 zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Vec16 broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }

inline __m256 widen(__m128i halves, f16) { return _mm256_cvtph_ps(halves); }
inline __m256 widen(__m128i halves, bf16) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}
inline Vec16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline Vec16 load_n(const float* p, uint32_t n) {
  const int count = static_cast<int>(n);
  return {_mm256_maskload_ps(p, first_lanes(count)), _mm256_maskload_ps(p + 8, first_lanes(count - 8))};
}
template <class Half>
inline Vec16 load(const Half* p) {
  const __m128i* halves = reinterpret_cast<const __m128i*>(p);
  return {widen(_mm_loadu_si128(halves), Half{}), widen(_mm_loadu_si128(halves + 1), Half{})};
}
template <class Half>
inline Vec16 load_n(const Half* p, uint32_t n) {
  Half copy[16] = {};
  std::memcpy(copy, p, n * sizeof(Half));
  return load(copy);
}

inline void store(float* p, Vec16 v) {
  _mm256_storeu_ps(p, v.lo);
  _mm256_storeu_ps(p + 8, v.hi);
}
inline void store_n(float* p, Vec16 v, uint32_t n) {
  const int count = static_cast<int>(n);
  _mm256_maskstore_ps(p, first_lanes(count), v.lo);
  _mm256_maskstore_ps(p + 8, first_lanes(count - 8), v.hi);
}
inline void store(f16* p, Vec16 v) {
  __m128i* halves = reinterpret_cast<__m128i*>(p);
  _mm_storeu_si128(halves, _mm256_cvtps_ph(v.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  _mm_storeu_si128(halves + 1, _mm256_cvtps_ph(v.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline void store_n(f16* p, Vec16 v, uint32_t n) {
  f16 copy[16];
  store(copy, v);
  std::memcpy(p, copy, n * sizeof(f16));
}

inline Vec16 add(Vec16 a, Vec16 b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
inline Vec16 sub(Vec16 a, Vec16 b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
inline Vec16 mul(Vec16 a, Vec16 b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
inline Vec16 div(Vec16 a, Vec16 b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
inline Vec16 min(Vec16 a, Vec16 b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
inline Vec16 max(Vec16 a, Vec16 b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
inline Vec16 fma(Vec16 a, Vec16 b, Vec16 c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}

inline uint32_t bits_of(__m256 lo, __m256 hi) {
  return static_cast<uint32_t>(_mm256_movemask_ps(lo)) | static_cast<uint32_t>(_mm256_movemask_ps(hi)) << 8;
}
inline uint32_t less(Vec16 a, Vec16 b) {
  return bits_of(_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ));
}
inline __m256 blend_by_bits(uint32_t mask, __m256 a, __m256 b) {
  const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i set = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(mask)), bit), bit);
  return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(set));
}
inline Vec16 select(uint32_t mask, Vec16 a, Vec16 b) {
  return {blend_by_bits(mask, a.lo, b.lo), blend_by_bits(mask >> 8, a.hi, b.hi)};
}

inline float sum(Vec16 v) {
  const __m256 eight = _mm256_add_ps(v.lo, v.hi);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float maximum(Vec16 v) {
  const __m256 eight = _mm256_max_ps(v.lo, v.hi);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

inline Vec16 square_root(Vec16 v) { return {_mm256_sqrt_ps(v.lo), _mm256_sqrt_ps(v.hi)}; }
inline Vec16 round_even(Vec16 v) {
  constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(v.lo, mode), _mm256_round_ps(v.hi, mode)};
}

inline __m256 round_bf16(__m256 v) {
  const __m256i bits = _mm256_castps_si256(v);
  const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i nearest = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7f800000));
  const __m256i normal = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7fffff));
  const __m256i rounded = _mm256_blendv_epi8(nearest, _mm256_or_si256(bits, _mm256_set1_epi32(0x400000)), nan);
  const __m256i kept = _mm256_or_si256(_mm256_and_si256(normal, _mm256_set1_epi32(-0x10000)), _mm256_set1_epi32(INT32_MIN));
  return _mm256_castsi256_ps(_mm256_and_si256(_mm256_blendv_epi8(bits, rounded, normal), kept));
}
inline Vec16 round_bf16(Vec16 v) { return {round_bf16(v.lo), round_bf16(v.hi)}; }

inline void store_bytes(uint8_t* p, Vec16 v) {
  const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(v.lo), _mm256_cvtps_epi32(v.hi));
  const __m256i ordered = _mm256_permute4x64_epi64(words, 0xd8);
  const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}
inline void store_bytes_n(uint8_t* p, Vec16 v, uint32_t n) {
  uint8_t copy[16];
  store_bytes(copy, v);
  std::memcpy(p, copy, n);
}

struct Double16 {
  __m256d quarter[4];
};

inline __m256d quarter_of(Vec16 v, int i) {
  const __m256 half = i < 2 ? v.lo : v.hi;
  return _mm256_cvtps_pd(i % 2 == 0 ? _mm256_castps256_ps128(half) : _mm256_extractf128_ps(half, 1));
}
inline Double16 zero_sums() {
  const __m256d zeros = _mm256_setzero_pd();
  return {{zeros, zeros, zeros, zeros}};
}
inline Double16 load_sums(const double* p) {
  return {{_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4), _mm256_loadu_pd(p + 8), _mm256_loadu_pd(p + 12)}};
}
inline void store_sums(double* p, Double16 s) {
  for (int i = 0; i < 4; i++) _mm256_storeu_pd(p + i * 4, s.quarter[i]);
}
inline Double16 add_to(Double16 s, Vec16 v) {
  for (int i = 0; i < 4; i++) s.quarter[i] = _mm256_add_pd(s.quarter[i], quarter_of(v, i));
  return s;
}
inline Double16 add_product(Double16 s, Vec16 a, Vec16 b) {
  for (int i = 0; i < 4; i++) s.quarter[i] = _mm256_fmadd_pd(quarter_of(a, i), quarter_of(b, i), s.quarter[i]);
  return s;
}
inline double sum(Double16 s) {
  const __m256d four = _mm256_add_pd(_mm256_add_pd(s.quarter[0], s.quarter[2]), _mm256_add_pd(s.quarter[1], s.quarter[3]));
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

struct Words16 {
  __m256i lo;
  __m256i hi;
};
struct WideWords16 {
  Words16 high;
  Words16 low;
};

inline Words16 broadcast_words(uint32_t word) {
  const __m256i all = _mm256_set1_epi32(static_cast<int>(word));
  return {all, all};
}
inline Words16 count_from(uint32_t first) {
  const __m256i all = _mm256_set1_epi32(static_cast<int>(first));
  return {_mm256_add_epi32(all, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
          _mm256_add_epi32(all, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15))};
}
inline Words16 xor_words(Words16 a, Words16 b) { return {_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)}; }
inline void multiply_half(__m256i a, __m256i by, __m256i* high, __m256i* low) {
  const __m256i even = _mm256_mul_epu32(a, by);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), by);
  *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
  *low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}
inline WideWords16 multiply_wide(Words16 a, uint32_t by) {
  const __m256i all = _mm256_set1_epi32(static_cast<int>(by));
  WideWords16 r;
  multiply_half(a.lo, all, &r.high.lo, &r.low.lo);
  multiply_half(a.hi, all, &r.high.hi, &r.low.hi);
  return r;
}
inline uint32_t at_least(Words16 a, int shift, uint32_t least) {
  const __m256i below = _mm256_set1_epi32(static_cast<int>(least) - 1);
  const auto half = [&](__m256i words) {
    const __m256i value = _mm256_and_si256(_mm256_srli_epi32(words, shift), _mm256_set1_epi32(0xffff));
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(value, below));
  };
  return bits_of(half(a.lo), half(a.hi));
}

inline __m256 scale_half(__m256 v, __m256 t) {
  const __m256i n = _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(0x4b400000));
  const __m256i first = _mm256_srai_epi32(n, 1);
  const __m256i second = _mm256_sub_epi32(n, first);
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256 a = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(first, bias), 23));
  const __m256 b = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(second, bias), 23));
  return _mm256_mul_ps(_mm256_mul_ps(v, a), b);
}
inline Vec16 scale_by_power_of_2(Vec16 v, Vec16 t) { return {scale_half(v.lo, t.lo), scale_half(v.hi, t.hi)}; }

}  // namespace apiq::cpu::avx2

#include "vec16_math.h"
