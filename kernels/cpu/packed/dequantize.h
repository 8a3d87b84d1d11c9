// dequantize_rows(isa, matrix, first_row, rows, y, stride): rows of a packed matrix as float32. For apiq_weight_dequantize, and for
// apiq_embedding of an affine table: resolve the table with affine_matrix() of common/plans/weight.h's plan, then one row an id.
#pragma once

#include "kernels.h"

namespace apiq::cpu {

// y[r, in_features], rows `stride` floats apart, = rows first_row .. of the matrix: exactly scale * (q - z), or fma(scale, q, m).
inline void dequantize_rows(Isa isa, const AffineMatrix& matrix, uint32_t first_row, uint32_t rows, float* y, uint64_t stride) {
  packed_kernels(isa).dequantize(matrix, first_row, rows, y, stride);
}

}  // namespace apiq::cpu
