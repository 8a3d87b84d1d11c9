// Dropout with masks of a counter-based generator (Philox4x32-10; see common/philox.h), sixteen counters side by side.
#pragma once

namespace apiq::cpu::APIQ_ISA {
namespace {

// The four words of counters first .. first + 15, whose high halves are the same.
void random_words(const DropoutMask& mask, uint64_t first, Words16* x) {
  x[0] = count_from(static_cast<uint32_t>(first));
  x[1] = broadcast_words(static_cast<uint32_t>(first >> 32));
  x[2] = broadcast_words(static_cast<uint32_t>(mask.stream));
  x[3] = broadcast_words(static_cast<uint32_t>(mask.stream >> 32));
  uint32_t key0 = static_cast<uint32_t>(mask.seed);
  uint32_t key1 = static_cast<uint32_t>(mask.seed >> 32);
  for (int round = 0; round < 10; round++) {
    const WideWords16 even = multiply_wide(x[0], 0xd2511f53u);
    const WideWords16 odd = multiply_wide(x[2], 0xcd9e8d57u);
    x[0] = xor_words(xor_words(odd.high, x[1]), broadcast_words(key0));
    x[1] = odd.low;
    x[2] = xor_words(xor_words(even.high, x[3]), broadcast_words(key1));
    x[3] = even.low;
    key0 += 0x9e3779b9u;
    key1 += 0xbb67ae85u;
  }
}

// Sixteen counters have 64 words, whose halves are 128 elements' numbers: 16 elements take the low halves of a word, the next 16
// the high ones.
void dropout(const float* x, float* y, uint64_t first, uint64_t count, const DropoutMask& mask, bool accumulate) {
  const Vec16 scale = broadcast(mask.scale);
  Words16 words[4];
  each16(count, [&](uint64_t i, auto lanes) {
    const uint64_t element = first + i;
    const uint32_t part = element / 16 % 8;
    if (part == 0) random_words(mask, element / 8, words);
    const Vec16 factor = select(at_least(words[part / 2], part % 2 * 16, mask.threshold), scale, zero());
    const Vec16 v = load(x + i, lanes);
    store(y + i, accumulate ? fma(v, factor, load(y + i, lanes)) : mul(v, factor), lanes);
  });
}

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
