// Eight doubles: two AVX registers, one AVX-512 register, or an array. What subtract_product multiplies must have an exact
// product (see kernels.h).
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace apiq::cpu::APIQ_ISA {
namespace {

#if defined(__AVX512F__)
struct Doubles {
  __m512d v;
};
constexpr uint32_t tile_of_rows = 8;
inline Doubles load_doubles(const double* p) { return {_mm512_loadu_pd(p)}; }
inline Doubles every(double x) { return {_mm512_set1_pd(x)}; }
inline void store_doubles(double* p, Doubles x) { _mm512_storeu_pd(p, x.v); }
inline Doubles subtract_product(Doubles a, Doubles b, Doubles c) { return {_mm512_fnmadd_pd(a.v, b.v, c.v)}; }
#elif defined(__AVX2__)
struct Doubles {
  __m256d lo;
  __m256d hi;
};
constexpr uint32_t tile_of_rows = 4;
inline Doubles load_doubles(const double* p) { return {_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)}; }
inline Doubles every(double x) { return {_mm256_set1_pd(x), _mm256_set1_pd(x)}; }
inline void store_doubles(double* p, Doubles x) {
  _mm256_storeu_pd(p, x.lo);
  _mm256_storeu_pd(p + 4, x.hi);
}
inline Doubles subtract_product(Doubles a, Doubles b, Doubles c) {
  return {_mm256_fnmadd_pd(a.lo, b.lo, c.lo), _mm256_fnmadd_pd(a.hi, b.hi, c.hi)};
}
#else
struct Doubles {
  double lane[8];
};
constexpr uint32_t tile_of_rows = 1;
template <class F>
[[gnu::always_inline]] inline Doubles each_double(F f) {
  Doubles r;
  for (int i = 0; i < 8; i++) r.lane[i] = f(i);
  return r;
}
inline Doubles load_doubles(const double* p) {
  return each_double([&](int i) { return p[i]; });
}
inline Doubles every(double x) {
  return each_double([&](int) { return x; });
}
inline void store_doubles(double* p, Doubles x) {
  for (int i = 0; i < 8; i++) p[i] = x.lane[i];
}
inline Doubles subtract_product(Doubles a, Doubles b, Doubles c) {
  return each_double([&](int i) { return c.lane[i] - a.lane[i] * b.lane[i]; });
}
#endif

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
