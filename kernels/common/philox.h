// Philox4x32-10, a counter-based random generator: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3"
// (SC 2011). The same key and counter give the same number on every backend.
#pragma once

#include <cstdint>

namespace apiq {

struct PhiloxBlock {
  uint32_t word[4];
};

constexpr PhiloxBlock philox4x32_10(uint64_t key, uint64_t counter_low, uint64_t counter_high) {
  PhiloxBlock x{{static_cast<uint32_t>(counter_low), static_cast<uint32_t>(counter_low >> 32), static_cast<uint32_t>(counter_high),
                 static_cast<uint32_t>(counter_high >> 32)}};
  uint32_t key0 = static_cast<uint32_t>(key);
  uint32_t key1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; round++) {
    const uint64_t even = uint64_t{0xd2511f53u} * x.word[0];
    const uint64_t odd = uint64_t{0xcd9e8d57u} * x.word[2];
    x = {{static_cast<uint32_t>(odd >> 32) ^ x.word[1] ^ key0, static_cast<uint32_t>(odd),
          static_cast<uint32_t>(even >> 32) ^ x.word[3] ^ key1, static_cast<uint32_t>(even)}};
    key0 += 0x9e3779b9u;
    key1 += 0xbb67ae85u;
  }
  return x;
}

// A number of [0, 1), a multiple of 2^-53: the top bits of (word 1, word 0) of the block at (counter, 0).
constexpr double philox_uniform(uint64_t key, uint64_t counter) {
  const PhiloxBlock block = philox4x32_10(key, counter, 0);
  return static_cast<double>((uint64_t{block.word[1]} << 32 | block.word[0]) >> 11) * 0x1p-53;
}

// Known answers of the authors' Random123 library, first words.
static_assert(philox4x32_10(0, 0, 0).word[0] == 0x6627e8d5u);
static_assert(philox4x32_10(~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}).word[0] == 0x408f276du);
static_assert(philox4x32_10(0x299f31d0a4093822u, 0x85a308d3243f6a88u, 0x0370734413198a2eu).word[3] == 0x24126ea1u);

}  // namespace apiq
