// Dense linear, a warp per output and row: each lane takes every 32nd input, the lanes' sums meet in a butterfly. Simple and right;
// the library call for large matrices is another path.
#pragma once

#include "../elements.cuh"

namespace apiq::cuda {

constexpr uint32_t dense_warps = 4;
constexpr uint32_t dense_threads = dense_warps * warp_threads;

template <class Element>
struct DenseArgs {
  Global<const decltype(Element::stored)> weight;  // [out, in]
  Global<const float> x;                           // [rows, in]
  Global<const float> bias;                        // [out] or absent
  Global<float> y;                                 // [rows, out]
  uint32_t out_features;
  uint32_t in_features;
  uint32_t blocks_per_row;
};

// Grid: blocks_per_row blocks for each row.
template <class Element>
APIQ_KERNEL(dense_threads) dense_kernel(DenseArgs<Element> a) {
  const uint32_t row = block_index_x() / a.blocks_per_row;
  const uint32_t output = block_index_x() % a.blocks_per_row * dense_warps + thread_index() / warp_threads;
  const uint32_t lane = thread_index() % warp_threads;
  if (output >= a.out_features) return;
  float sum = 0.0f;
  for (uint32_t i = lane; i < a.in_features; i += warp_threads) {
    sum = fma(Element::value(a.weight.load(uint64_t{output} * a.in_features + i)), a.x.load(uint64_t{row} * a.in_features + i), sum);
  }
  sum = warp_sum(sum);
  if (lane == 0) a.y.store(uint64_t{row} * a.out_features + output, a.bias.present() ? sum + a.bias.load(output) : sum);
}

}  // namespace apiq::cuda
