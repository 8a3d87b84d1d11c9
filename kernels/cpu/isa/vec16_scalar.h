// Vec16 without SIMD: the oracle of the other two. The interface, which vec16_avx2.h and vec16_avx512.h repeat:
//
//   load(p) load_n(p, n) store(p, v) store_n(p, v, n)   p: float, f16 or bf16 (bf16: load only), any alignment;
//                                                       n < 16: lanes n.. are neither read nor written, and load as 0
//   zero() broadcast(x)
//   add sub mul div min max, fma(a, b, c) = a * b + c rounded once
//                                                       min/max give the second operand when either is a NaN
//   less(a, b)                                          one bit a lane, lane 0 lowest
//   select(mask, a, b)                                  lanes of a where the mask's bit is 1, else of b
//   sum(v) maximum(v)                                   a fixed tree: lanes i and i+8, then i+4, i+2, i+1
//   square_root(v)
//   round_even(v)                                       to the nearest whole number, ties to even; keeps NaN and the sign of 0
//   round_bf16(v)                                       to the nearest bfloat16, ties to even; subnormals give 0 of their sign
//   store_bytes(p, v) store_bytes_n(p, v, n)            whole numbers 0 .. 255 as uint8
//   scale_by_power_of_2(v, t)                           see exp() in vec16_math.h
//   Double16                                            16 sums in double precision: zero_sums(), load_sums(p), store_sums(p, s),
//                                                       add_to(s, v), add_product(s, a, b) = s + a b rounded once, and sum(s) with
//                                                       the tree of sum(v)
//   Words16                                             16 32-bit words: broadcast_words(w), count_from(w) = w, w + 1 ..,
//                                                       xor_words(a, b), multiply_wide(a, w): both words of the products
//   at_least(a, shift, w)                               one bit a lane: whether 16 bits of a from `shift` on are at least w
//   accumulators                                        how many Vec16 a kernel may keep in registers as sums
//
// A kernel is written once over Vec16 in `namespace apiq::cpu::APIQ_ISA` and compiled once per instruction set; all
// three give the same bits (NaN payloads aside).
#pragma once

#define APIQ_ISA scalar

#include <bit>
#include <cstdint>

#include "../../common/half.h"

namespace apiq::cpu::scalar {

struct Vec16 {
  float lane[16];
};

inline constexpr uint32_t accumulators = 4;

namespace lanes {
template <class F>
[[gnu::always_inline]] inline Vec16 map(F f) {
  Vec16 r;
  for (int i = 0; i < 16; i++) r.lane[i] = f(i);
  return r;
}
}  // namespace lanes

inline Vec16 broadcast(float x) {
  return lanes::map([&](int) { return x; });
}
inline Vec16 zero() { return broadcast(0.0f); }

inline float element(const float* p) { return *p; }
inline float element(const f16* p) { return to_float(*p); }
inline float element(const bf16* p) { return to_float(*p); }

template <class T>
inline Vec16 load(const T* p) {
  return lanes::map([&](int i) { return element(p + i); });
}
template <class T>
inline Vec16 load_n(const T* p, uint32_t n) {
  return lanes::map([&](int i) { return static_cast<uint32_t>(i) < n ? element(p + i) : 0.0f; });
}

inline void store_n(float* p, Vec16 v, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) p[i] = v.lane[i];
}
inline void store_n(f16* p, Vec16 v, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) p[i] = to_f16(v.lane[i]);
}
template <class T>
inline void store(T* p, Vec16 v) {
  store_n(p, v, 16);
}

inline Vec16 add(Vec16 a, Vec16 b) {
  return lanes::map([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline Vec16 sub(Vec16 a, Vec16 b) {
  return lanes::map([&](int i) { return a.lane[i] - b.lane[i]; });
}
inline Vec16 mul(Vec16 a, Vec16 b) {
  return lanes::map([&](int i) { return a.lane[i] * b.lane[i]; });
}
inline Vec16 div(Vec16 a, Vec16 b) {
  return lanes::map([&](int i) { return a.lane[i] / b.lane[i]; });
}
inline Vec16 min(Vec16 a, Vec16 b) {
  return lanes::map([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline Vec16 max(Vec16 a, Vec16 b) {
  return lanes::map([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
// The C library's fmaf is exact on processors without the instruction, too.
inline Vec16 fma(Vec16 a, Vec16 b, Vec16 c) {
  return lanes::map([&](int i) { return __builtin_fmaf(a.lane[i], b.lane[i], c.lane[i]); });
}

inline uint32_t less(Vec16 a, Vec16 b) {
  uint32_t mask = 0;
  for (uint32_t i = 0; i < 16; i++) mask |= static_cast<uint32_t>(a.lane[i] < b.lane[i]) << i;
  return mask;
}
inline Vec16 select(uint32_t mask, Vec16 a, Vec16 b) {
  return lanes::map([&](int i) { return (mask >> i & 1u) != 0 ? a.lane[i] : b.lane[i]; });
}

inline float sum(Vec16 v) {
  for (int half = 8; half != 0; half /= 2) {
    for (int i = 0; i < half; i++) v.lane[i] += v.lane[i + half];
  }
  return v.lane[0];
}
inline float maximum(Vec16 v) {
  for (int half = 8; half != 0; half /= 2) {
    for (int i = 0; i < half; i++) v.lane[i] = v.lane[i] > v.lane[i + half] ? v.lane[i] : v.lane[i + half];
  }
  return v.lane[0];
}

inline Vec16 square_root(Vec16 v) {
  return lanes::map([&](int i) { return __builtin_sqrtf(v.lane[i]); });
}

// Adding 2^23 leaves no bits for a fraction; from there on, floats are whole.
inline Vec16 round_even(Vec16 v) {
  return lanes::map([&](int i) {
    const float x = v.lane[i];
    const float shift = __builtin_copysignf(0x1p23f, x);
    const float rounded = __builtin_copysignf((x + shift) - shift, x);
    return __builtin_fabsf(x) < 0x1p23f ? rounded : x;
  });
}

inline Vec16 round_bf16(Vec16 v) {
  return lanes::map([&](int i) {
    const uint32_t bits = std::bit_cast<uint32_t>(v.lane[i]);
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return std::bit_cast<float>((bits | 0x400000u) & 0xffff0000u);
    if (magnitude < 0x800000u) return std::bit_cast<float>(bits & 0x80000000u);
    return std::bit_cast<float>((bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u);
  });
}

inline void store_bytes_n(uint8_t* p, Vec16 v, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) p[i] = static_cast<uint8_t>(static_cast<int32_t>(v.lane[i]));
}
inline void store_bytes(uint8_t* p, Vec16 v) { store_bytes_n(p, v, 16); }

struct Double16 {
  double lane[16];
};

inline Double16 zero_sums() { return {}; }
inline Double16 load_sums(const double* p) {
  Double16 s;
  for (int i = 0; i < 16; i++) s.lane[i] = p[i];
  return s;
}
inline void store_sums(double* p, Double16 s) {
  for (int i = 0; i < 16; i++) p[i] = s.lane[i];
}
inline Double16 add_to(Double16 s, Vec16 v) {
  for (int i = 0; i < 16; i++) s.lane[i] += static_cast<double>(v.lane[i]);
  return s;
}
// The product of two floats is exact in double precision: this equals a fused multiply-add.
inline Double16 add_product(Double16 s, Vec16 a, Vec16 b) {
  for (int i = 0; i < 16; i++) s.lane[i] += static_cast<double>(a.lane[i]) * static_cast<double>(b.lane[i]);
  return s;
}
inline double sum(Double16 s) {
  for (int half = 8; half != 0; half /= 2) {
    for (int i = 0; i < half; i++) s.lane[i] += s.lane[i + half];
  }
  return s.lane[0];
}

struct Words16 {
  uint32_t lane[16];
};
struct WideWords16 {
  Words16 high;
  Words16 low;
};

inline Words16 count_from(uint32_t first) {
  Words16 r;
  for (uint32_t i = 0; i < 16; i++) r.lane[i] = first + i;
  return r;
}
inline Words16 broadcast_words(uint32_t word) {
  Words16 r;
  for (uint32_t& lane : r.lane) lane = word;
  return r;
}
inline Words16 xor_words(Words16 a, Words16 b) {
  for (int i = 0; i < 16; i++) a.lane[i] ^= b.lane[i];
  return a;
}
inline WideWords16 multiply_wide(Words16 a, uint32_t by) {
  WideWords16 r;
  for (int i = 0; i < 16; i++) {
    const uint64_t product = uint64_t{by} * a.lane[i];
    r.high.lane[i] = static_cast<uint32_t>(product >> 32);
    r.low.lane[i] = static_cast<uint32_t>(product);
  }
  return r;
}
inline uint32_t at_least(Words16 a, int shift, uint32_t least) {
  uint32_t mask = 0;
  for (uint32_t i = 0; i < 16; i++) mask |= static_cast<uint32_t>((a.lane[i] >> shift & 0xffffu) >= least) << i;
  return mask;
}

inline Vec16 scale_by_power_of_2(Vec16 v, Vec16 t) {
  return lanes::map([&](int i) {
    const int32_t n = static_cast<int32_t>(std::bit_cast<uint32_t>(t.lane[i]) - 0x4b400000u);
    const int32_t first = n >> 1;
    const uint32_t second = static_cast<uint32_t>(n) - static_cast<uint32_t>(first);
    const float a = std::bit_cast<float>((static_cast<uint32_t>(first) + 127u) << 23);
    const float b = std::bit_cast<float>((second + 127u) << 23);
    return v.lane[i] * a * b;
  });
}

}  // namespace apiq::cpu::scalar

#include "vec16_math.h"
