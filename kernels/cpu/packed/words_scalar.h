// Sixteen 32-bit integers beside Vec16, for taking packed fields apart. The interface, which words_avx2.h and words_avx512.h repeat:
//
//   load_words(p)                   64 bytes, aligned to 64
//   spread(a, b, c, d)              lanes 0..3 are a, 4..7 are b, and so on
//   shift_right(w, n or counts)     logical, by one count or by one of each lane
//   shift_left(w, n)
//   keep(w, mask) either(a, b) minus(a, b)
//   merge(mask, a, b)               bits of a where the mask's are 1, else of b
//   to_float(w)                     of signed values
//   load_table<bits>(p)             16 entries, aligned to 64, that repeat after 2^bits
//   look_up(table, w)               entries; bits of w above the table's do not count
//   affine_tokens                   how many rows of x the kernel of f32_tile.h keeps sums of in registers, one each
//   lut_row_tokens lut_tokens       how many rows of x the kernels of lut_tile.h keep sums of in registers, two each: while codes
//                                   are looked up, and without
#pragma once

#include <cstddef>
#include <cstring>

#include "../isa/vec16_scalar.h"

namespace apiq::cpu::scalar {

struct Words {
  uint32_t lane[16];
};

namespace lanes {
template <class F>
[[gnu::always_inline]] inline Words words(F f) {
  Words r;
  for (uint32_t i = 0; i < 16; i++) r.lane[i] = f(i);
  return r;
}
}  // namespace lanes

inline Words load_words(const void* p) {
  Words r;
  std::memcpy(r.lane, p, sizeof r.lane);
  return r;
}
inline Words spread(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  const uint32_t four[] = {a, b, c, d};
  return lanes::words([&](uint32_t i) { return four[i / 4]; });
}
inline Words shift_right(Words w, uint32_t n) {
  return lanes::words([&](uint32_t i) { return w.lane[i] >> n; });
}
inline Words shift_right(Words w, Words counts) {
  return lanes::words([&](uint32_t i) { return w.lane[i] >> counts.lane[i]; });
}
inline Words shift_left(Words w, uint32_t n) {
  return lanes::words([&](uint32_t i) { return w.lane[i] << n; });
}
inline Words keep(Words w, uint32_t mask) {
  return lanes::words([&](uint32_t i) { return w.lane[i] & mask; });
}
inline Words either(Words a, Words b) {
  return lanes::words([&](uint32_t i) { return a.lane[i] | b.lane[i]; });
}
inline Words minus(Words a, Words b) {
  return lanes::words([&](uint32_t i) { return a.lane[i] - b.lane[i]; });
}
inline Words merge(uint32_t mask, Words a, Words b) {
  return lanes::words([&](uint32_t i) { return (a.lane[i] & mask) | (b.lane[i] & ~mask); });
}
inline Vec16 to_float(Words w) {
  return lanes::map([&](int i) { return static_cast<float>(static_cast<int32_t>(w.lane[i])); });
}

inline constexpr uint32_t affine_tokens = 4;
inline constexpr uint32_t lut_row_tokens = 1;
inline constexpr uint32_t lut_tokens = 2;

template <uint32_t bits>
struct Table {
  float entry[16];
};
template <uint32_t bits>
inline Table<bits> load_table(const float* p) {
  Table<bits> table;
  std::memcpy(table.entry, p, sizeof table.entry);
  return table;
}
template <uint32_t bits>
inline Vec16 look_up(const Table<bits>& table, Words w) {
  return lanes::map([&](int i) { return table.entry[w.lane[i] & 15]; });
}

}  // namespace apiq::cpu::scalar
