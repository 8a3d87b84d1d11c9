// Where the factorisations put float32 matrices as doubles.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels.h"

namespace apiq::cpu {

// Rows of the left factor that an item works on, and how much of the depth is held as doubles at a time.
constexpr uint32_t row_block = 32;
constexpr uint32_t depth_block = 256;

// to[r, k] = a[r, k] for k < depth; rows of `to` are depth_block apart.
inline void widen_rows(const float* a, uint64_t a_stride, uint32_t rows, uint64_t depth, double* to) {
  for (uint32_t r = 0; r < rows; r++) {
    for (uint64_t k = 0; k < depth; k++) to[r * depth_block + k] = static_cast<double>(a[r * a_stride + k]);
  }
}

// c[r, 0..64) -= a[r, 0..depth) p, all of the depth; `widened` has room for rows * depth_block doubles.
inline void subtract_rows(const LinalgKernels& kernels, const float* a, uint64_t a_stride, uint32_t rows, const double* p,
                          uint64_t strip_stride, uint64_t depth, double* c, double* widened) {
  for (uint64_t k = 0; k < depth; k += depth_block) {
    const uint64_t part = std::min<uint64_t>(depth_block, depth - k);
    widen_rows(a + k, a_stride, rows, part, widened);
    kernels.subtract_products(widened, depth_block, p + k * strip_columns, strip_stride, part, c, rows);
  }
}

}  // namespace apiq::cpu
