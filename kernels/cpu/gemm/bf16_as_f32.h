// APIQ_COMPUTE_BF16 with float32 instructions: factors are rounded to bfloat16 while they are packed, but stay float32, so that the
// kernels of float32 multiply them; a product of two of them is exact, and each half of VDPBF16PS one fused multiply-add. The
// instruction set gives SubnormalsAreZero, for a scope in which Bf16Step flushes as that instruction does.
#pragma once

#include "multiply.h"
#include "pack.h"

namespace apiq::cpu::APIQ_ISA {
namespace {

template <uint32_t width>
void pack_rounded(const PanelSource& from, float* packed) {
  pack<width>(from, packed);
  const uint64_t panels = (from.lines + width - 1) / width;
  for (float* pair = packed; pair != packed + panels * from.words * width; pair += 2 * width) {
    each16(width, [&](uint64_t i, auto lanes) {
      const Vec16 even = round_bf16(load(pair + i, lanes));
      const Vec16 odd = round_bf16(load(pair + width + i, lanes));
      store(pair + i, odd, lanes);
      store(pair + width + i, even, lanes);
    });
  }
}

struct FlushedChains {
  template <uint32_t R, uint32_t V>
  static void run(uint32_t words, const float* a, const float* b, Vec16 (&sums)[R][V]) {
    [[maybe_unused]] const SubnormalsAreZero scope;
    chains<R, V>(words, a, b, sums);
  }

  // A call of its own: the compiler may move arithmetic, but not a call, out of the scope. The sums leave registers at its end
  // only: for all that the compiler knows, they lie among the factors.
  template <uint32_t R, uint32_t V>
  [[gnu::noinline]] static void chains(uint32_t words, const float* a, const float* b, Vec16 (&sums)[R][V]) {
    Vec16 in_registers[R][V];
    products<R, V, Bf16Step>(words, a, 1, tile_rows, b, tile_vectors * vec_lanes, in_registers);
#pragma GCC unroll 8
    for (uint32_t i = 0; i < R; i++) {
#pragma GCC unroll 4
      for (uint32_t v = 0; v < V; v++) sums[i][v] = in_registers[i][v];
    }
  }
};

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
