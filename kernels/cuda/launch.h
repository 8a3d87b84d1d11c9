// What the launchers of the ops share.
#pragma once

#include <cinttypes>

#include "affine_layout.h"
#include "codes.cuh"
#include "context.h"

namespace apiq::cuda {

// A packed matrix as kernels read it.
inline TileReader tile_reader(const WeightPlan& weight) {
  const AffineLayout layout = affine_layout(weight);
  return {Global<const uint32_t>(reinterpret_cast<const uint32_t*>(weight.data), affine_words(layout)), layout};
}

// `blocks` as a grid of one dimension; fails where CUDA has no such grid.
inline device::Grid line_of_blocks(uint64_t blocks, uint32_t threads) {
  if (blocks > INT32_MAX) fail(APIQ_UNSUPPORTED, "Cannot launch %" PRIu64 " blocks: CUDA allows %d", blocks, INT32_MAX);
  return {static_cast<uint32_t>(blocks), 1, threads};
}

inline uint32_t ceil_div(uint32_t a, uint32_t b) { return a / b + (a % b != 0 ? 1 : 0); }

}  // namespace apiq::cuda
