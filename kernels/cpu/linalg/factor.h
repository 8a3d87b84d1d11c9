// Loops of cholesky and triangular_inverse, in double precision.
#pragma once

#include "doubles.h"

namespace apiq::cpu::APIQ_ISA {
namespace {

template <uint32_t R>
[[gnu::always_inline]] inline void subtract_tile(const double* a, uint64_t a_stride, const double* p, uint64_t depth, double* c) {
  Doubles sum[R];
  for (uint32_t r = 0; r < R; r++) sum[r] = load_doubles(c + r * panel_columns);
  for (uint64_t k = 0; k < depth; k++) {
    const Doubles right = load_doubles(p + k * strip_columns);
    for (uint32_t r = 0; r < R; r++) sum[r] = subtract_product(every(a[r * a_stride + k]), right, sum[r]);
  }
  for (uint32_t r = 0; r < R; r++) store_doubles(c + r * panel_columns, sum[r]);
}

// A strip's part of the panel stays in the first cache while all rows pass over it.
void subtract_products(const double* a, uint64_t a_stride, const double* p, uint64_t strip_stride, uint64_t depth, double* c,
                       uint32_t rows) {
  for (uint32_t strip = 0; strip < panel_columns / strip_columns; strip++) {
    const double* right = p + strip * strip_stride;
    double* column = c + strip * strip_columns;
    uint32_t r = 0;
    for (; r + tile_of_rows <= rows; r += tile_of_rows) {
      subtract_tile<tile_of_rows>(a + r * a_stride, a_stride, right, depth, column + r * panel_columns);
    }
    for (; r < rows; r++) subtract_tile<1>(a + r * a_stride, a_stride, right, depth, column + r * panel_columns);
  }
}

// The columns left of j in its strip are done; what the vector instructions make of them there is never read.
void solve_row(double* c, const double* lt, uint32_t columns) {
  double x[panel_columns];
  for (uint32_t j = 0; j < columns; j++) {
    const double* column = lt + j * panel_columns;
    x[j] = static_cast<double>(static_cast<float>(c[j] / column[j]));
    const Doubles factor = every(x[j]);
    for (uint32_t i = j / strip_columns * strip_columns; i < columns; i += strip_columns) {
      store_doubles(c + i, subtract_product(factor, load_doubles(column + i), load_doubles(c + i)));
    }
  }
  for (uint32_t j = 0; j < columns; j++) c[j] = x[j];
}

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
