// From run-time shapes to an instance of a packed tile kernel: Kernel::run<bits, float_zero, tokens>. `Kernel` belongs to one
// instruction set's namespace, so its instances are never shared between sets.
#pragma once

#include <utility>

#include "kernels.h"

namespace apiq::cpu {

template <class Kernel, uint32_t max_tokens, uint32_t bits, bool float_zero, class... Args>
void run_for_tokens(uint32_t tokens, const AffineMatrix& matrix, Args... args) {
  [&]<uint32_t... index>(std::integer_sequence<uint32_t, index...>) {
    (void)((tokens == index + 1 && (Kernel::template run<bits, float_zero, index + 1>(matrix, args...), true)) || ...);
  }(std::make_integer_sequence<uint32_t, max_tokens>());
}

template <class Kernel, uint32_t max_tokens, uint32_t bits, class... Args>
void run_for_zero(uint32_t tokens, const AffineMatrix& matrix, Args... args) {
  if (matrix.zero == APIQ_ZERO_FLOAT) {
    run_for_tokens<Kernel, max_tokens, bits, true, Args...>(tokens, matrix, args...);
  } else {
    run_for_tokens<Kernel, max_tokens, bits, false, Args...>(tokens, matrix, args...);
  }
}

// tokens: 1 .. max_tokens. Args are passed on as they are named, so references must be asked for.
template <class Kernel, uint32_t max_tokens, class... Args>
void run_tile(uint32_t tokens, const AffineMatrix& matrix, Args... args) {
  switch (matrix.bits) {
    case 2: run_for_zero<Kernel, max_tokens, 2, Args...>(tokens, matrix, args...); break;
    case 3: run_for_zero<Kernel, max_tokens, 3, Args...>(tokens, matrix, args...); break;
    case 4: run_for_zero<Kernel, max_tokens, 4, Args...>(tokens, matrix, args...); break;
    default: run_for_zero<Kernel, max_tokens, 8, Args...>(tokens, matrix, args...); break;
  }
}

}  // namespace apiq::cpu
