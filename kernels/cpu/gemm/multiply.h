// Packed block times packed block.
#pragma once

#include <array>
#include <utility>

#include "kernels.h"
#include "micro.h"

namespace apiq::cpu::APIQ_ISA {
namespace {

// c[0 .. cols) = alpha sum + beta c
[[gnu::always_inline]] inline void put(float* c, Vec16 sum, uint32_t cols, float alpha, float beta) {
  if (cols >= vec_lanes) {
    store(c, beta == 0 ? mul(broadcast(alpha), sum) : fma(broadcast(alpha), sum, mul(broadcast(beta), load(c))));
  } else if (cols != 0) {
    store_n(c, beta == 0 ? mul(broadcast(alpha), sum) : fma(broadcast(alpha), sum, mul(broadcast(beta), load_n(c, cols))), cols);
  }
}

// The sums of a tile: Chains::run<R, V>(words, a, b, sums).
struct F32Chains {
  template <uint32_t R, uint32_t V>
  [[gnu::always_inline]] static void run(uint32_t words, const float* a, const float* b, Vec16 (&sums)[R][V]) {
    products<R, V>(words, a, 1, tile_rows, b, tile_vectors * vec_lanes, sums);
  }
};

// One tile of R rows and at most V vectors of columns.
template <class Chains, uint32_t R, uint32_t V>
void multiply_panels(const GemmBlock& block, const float* a, const float* b, float* c, uint32_t cols) {
  Vec16 sums[R][V];
  Chains::template run<R, V>(block.words, a, b, sums);
#pragma GCC unroll 8
  for (uint32_t i = 0; i < R; i++) {
#pragma GCC unroll 4
    for (uint32_t v = 0; v < V; v++) {
      put(c + i * block.ldc + v * vec_lanes, sums[i][v], cols > v * vec_lanes ? cols - v * vec_lanes : 0, block.alpha, block.beta);
    }
  }
}

using TileKernel = void (*)(const GemmBlock&, const float*, const float*, float*, uint32_t);

template <class Chains, uint32_t... index>
constexpr std::array<TileKernel, sizeof...(index)> tile_kernels(std::integer_sequence<uint32_t, index...>) {
  return {multiply_panels<Chains, index / tile_vectors + 1, index % tile_vectors + 1>...};
}

// Index: (rows - 1) * tile_vectors + vectors - 1.
template <class Chains>
constexpr auto tiles = tile_kernels<Chains>(std::make_integer_sequence<uint32_t, tile_rows * tile_vectors>());

// A panel of a stays in the first-level cache while the panels of b pass by from the second.
template <class Chains>
void multiply(const GemmBlock& block) {
  constexpr uint32_t tile_cols = tile_vectors * vec_lanes;
  for (uint32_t row = 0; row < block.rows; row += tile_rows) {
    const uint32_t rows = block.rows - row < tile_rows ? block.rows - row : tile_rows;
    const float* const a = block.a + uint64_t{row} * block.words;
    float* const c = block.c + row * block.ldc;
    for (uint32_t col = 0; col < block.cols; col += tile_cols) {
      const uint32_t cols = block.cols - col < tile_cols ? block.cols - col : tile_cols;
      const uint32_t vectors = (cols + vec_lanes - 1) / vec_lanes;
      tiles<Chains>[(rows - 1) * tile_vectors + vectors - 1](block, a, block.b + uint64_t{col} * block.words, c + col, cols);
    }
  }
}

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
