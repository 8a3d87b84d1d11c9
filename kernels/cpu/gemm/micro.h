// The innermost loop of every product: R rows of a times V vectors of 16 columns of b, all sums in registers.
#pragma once

#include <cstdint>

namespace apiq::cpu::APIQ_ISA {
namespace {

// One step of a chain, in float32.
struct MultiplyAdd {
  static Vec16 add(Vec16 sum, Vec16 element, Vec16 column) { return fma(element, column, sum); }
};

// sums[i][v] = sum over p, in order, of a[i * a_row + p * a_k] * b[p * b_k + 16 v ..].
template <uint32_t R, uint32_t V, class Step = MultiplyAdd>
[[gnu::always_inline]] inline void products(uint32_t k, const float* a, uint64_t a_row, uint64_t a_k, const float* b, uint64_t b_k,
                                            Vec16 (&sums)[R][V]) {
#pragma GCC unroll 8
  for (uint32_t i = 0; i < R; i++) {
#pragma GCC unroll 4
    for (uint32_t v = 0; v < V; v++) sums[i][v] = zero();
  }
  for (uint32_t p = 0; p < k; p++, a += a_k, b += b_k) {
    Vec16 columns[V];
#pragma GCC unroll 4
    for (uint32_t v = 0; v < V; v++) columns[v] = load(b + v * vec_lanes);
#pragma GCC unroll 8
    for (uint32_t i = 0; i < R; i++) {
      const Vec16 element = broadcast(a[i * a_row]);
#pragma GCC unroll 4
      for (uint32_t v = 0; v < V; v++) sums[i][v] = Step::add(sums[i][v], element, columns[v]);
    }
  }
}

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
