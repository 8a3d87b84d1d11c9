#pragma once

namespace apiq::cpu::APIQ_ISA {
namespace {

// y[i .. i+16) = f(a[i ..], b[i ..]); y may be a or b.
template <class F>
void zip(const float* a, const float* b, float* y, uint64_t count, F f) {
  uint64_t i = 0;
  for (; i + 16 <= count; i += 16) store(y + i, f(load(a + i), load(b + i)));
  if (i < count) {
    const uint32_t rest = static_cast<uint32_t>(count - i);
    store_n(y + i, f(load_n(a + i, rest), load_n(b + i, rest)), rest);
  }
}

void add_arrays(const float* a, const float* b, float* y, uint64_t count) {
  zip(a, b, y, count, [](Vec16 a16, Vec16 b16) { return add(a16, b16); });
}

void silu_mul(const float* gate, const float* up, float* y, uint64_t count) {
  zip(gate, up, y, count, [](Vec16 g, Vec16 u) { return mul(div(g, add(broadcast(1.0f), exp(sub(zero(), g)))), u); });
}

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
