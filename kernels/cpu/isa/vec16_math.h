// Functions over Vec16 that need nothing of one instruction set. Included by the vec16_*.h headers.
#pragma once

namespace apiq::cpu::APIQ_ISA {

inline constexpr uint32_t vec_lanes = 16;

// e^x with a relative error below 1.2e-7 (about one unit in the last place); 0 below -104, infinity above 89, NaN for NaN.
// x = n ln 2 + r with |r| <= ln 2 / 2; a polynomial for e^r, fitted for the least relative error, times 2^n. n is what rounding to an
// integer leaves in the low bits of x * log2(e) + 1.5 * 2^23; scale_by_power_of_2 multiplies by it in two steps, so that
// subnormal results are rounded once and nothing overflows early.
inline Vec16 exp(Vec16 x) {
  x = max(broadcast(-104.5f), min(broadcast(89.0f), x));
  const Vec16 shift = broadcast(0x1.8p23f);
  const Vec16 t = fma(x, broadcast(0x1.715476p+0f), shift);
  const Vec16 n = sub(t, shift);
  Vec16 r = fma(n, broadcast(-0x1.62e4p-1f), x);
  r = fma(n, broadcast(-0x1.7f7d1cp-20f), r);
  Vec16 p = fma(broadcast(0x1.6a2432p-10f), r, broadcast(0x1.1239e2p-7f));
  p = fma(p, r, broadcast(0x1.5558f2p-5f));
  p = fma(p, r, broadcast(0x1.555492p-3f));
  p = fma(p, r, broadcast(0x1.fffffcp-2f));
  p = fma(p, r, broadcast(1.0f));
  p = fma(p, r, broadcast(1.0f));
  return scale_by_power_of_2(p, t);
}

// 1 / (1 + e^-x), relative error below 3e-7.
inline Vec16 sigmoid(Vec16 x) { return div(broadcast(1.0f), add(broadcast(1.0f), exp(sub(zero(), x)))); }

// Either kind of a loop's step: 16 lanes, or the first n < 16 at its end.
struct Whole {};
struct Part {
  uint32_t n;
};

inline Vec16 load(const float* p, Whole) { return load(p); }
inline Vec16 load(const float* p, Part part) { return load_n(p, part.n); }
inline void store(float* p, Vec16 v, Whole) { store(p, v); }
inline void store(float* p, Vec16 v, Part part) { store_n(p, v, part.n); }
inline void store_bytes(uint8_t* p, Vec16 v, Whole) { store_bytes(p, v); }
inline void store_bytes(uint8_t* p, Vec16 v, Part part) { store_bytes_n(p, v, part.n); }

// Calls f(index, Whole or Part) for every 16 of `count` elements.
template <class F>
[[gnu::always_inline]] inline void each16(uint64_t count, F f) {
  uint64_t i = 0;
  for (; i + 16 <= count; i += 16) f(i, Whole{});
  if (i < count) f(i, Part{static_cast<uint32_t>(count - i)});
}

}  // namespace apiq::cpu::APIQ_ISA
