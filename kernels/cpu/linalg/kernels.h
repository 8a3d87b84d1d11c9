// Loops of the dense factorisations and of OPTQ, one set per instruction set. All sets compute the same bits: sums have one order,
// and the double-precision products below have float32 factors, so they are exact and a fused multiply-add rounds as two
// instructions do.
#pragma once

#include <cstdint>

#include "../core/isa.h"

namespace apiq::cpu {

// Columns of a panel. A panel [depth, 64] of doubles is stored in 8 strips of 8 columns, each [depth, 8].
constexpr uint32_t panel_columns = 64;
constexpr uint32_t strip_columns = 8;

// Rows that one call of gptq_columns or gptq_update takes, and the columns between two updates of the rest.
constexpr uint32_t gptq_rows = 32;
constexpr uint32_t gptq_block = 128;

// One block of columns of `gptq_rows` rows, a column's rows side by side.
struct GptqBlock {
  float* w;             // [columns, gptq_rows]: the weights, then what they dequantise to
  float* errors;        // [columns, gptq_rows], out: (w - dequantised) / U[i, i]
  uint8_t* q;           // [columns, gptq_rows], out
  float* scale;         // [gptq_rows]: of the group that the next column belongs to; kept from block to block
  float* zero;          // [gptq_rows]
  const float* factor;  // U[first, first], rows factor_stride apart
  uint64_t factor_stride;
  uint32_t bits;
};

struct LinalgKernels {
  // c[r, 0..64) -= sum over k, in order, of a[r, k] p[k, 0..64). All of a and p are float32 values.
  void (*subtract_products)(const double* a, uint64_t a_stride, const double* p, uint64_t strip_stride, uint64_t depth, double* c,
                            uint32_t rows);

  // x[0..columns) with x L^T = c, in place: x[j] = float32(c[j] / L[j, j]), then c[i] -= x[j] L[i, j] for i > j. `lt` is L^T,
  // [64, 64].
  void (*solve_row)(double* c, const double* lt, uint32_t columns);

  // Group parameters from the smallest and largest of `columns` columns of w, extended to 0.
  void (*gptq_range)(const float* w, uint32_t columns, uint32_t bits, float* scale, float* zero);

  // Columns [first, end) of the block, one after another: quantized, and their errors spread over the block's columns up to
  // `columns`.
  void (*gptq_columns)(const GptqBlock& block, uint32_t first, uint32_t end, uint32_t columns);

  // w[r, 0..n) -= sum over i of errors[i, r] u[i, 0..n), with one fma per i, in order. `strip` has room for depth * 16 floats.
  void (*gptq_update)(const float* errors, uint32_t depth, const float* u, uint64_t u_stride, float* w, uint64_t w_stride,
                      uint32_t rows, uint64_t n, float* strip);
};

const LinalgKernels& linalg_kernels(Isa isa);

namespace scalar { extern const LinalgKernels linalg_kernels; }
namespace avx2 { extern const LinalgKernels linalg_kernels; }
namespace avx512 { extern const LinalgKernels linalg_kernels; }

}  // namespace apiq::cpu
