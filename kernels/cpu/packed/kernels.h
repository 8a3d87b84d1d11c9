// The packed and dense matrix kernels of one instruction set. All sets compute the same bits: integers are exact, and every
// floating-point sum has one order, written down beside the kernel's declaration.
#pragma once

#include "../core/isa.h"
#include "activations.h"
#include "layout.h"

namespace apiq::cpu {

// Where a kernel writes: a block of y, float32, rows `stride` elements apart; bias may be null and starts at the block's column.
struct Output {
  float* y;
  uint64_t stride;
  const float* bias;
  uint32_t columns;  // at most 16
};

struct DenseMatrix {
  const std::byte* data;
  uint32_t dtype;  // APIQ_F32, APIQ_F16 or APIQ_BF16
  uint32_t out_features;
  uint32_t in_features;
};

struct PackedKernels {
  // Register tiles: how many tokens one call may take, divisors of 8.
  uint32_t int8_tokens;
  uint32_t affine_tokens;  // with float32 activations
  uint32_t dense_tokens;

  // Quantizes groups [first_group, end_group) of x[block.tokens, in] into the block.
  void (*quantize)(const float* x, uint64_t stride, uint32_t group, uint32_t first_group, uint32_t end_group, const ActivationBlock& block);

  // y[t, 0..16) = tile * block[t]. Groups in order: d = sum(q_w q_x) - z * sum(q_x) in int32, then
  // acc = fma(float(d), s_w * s_x, acc); with float minimums m also acc = fma(m, scaled_sum, acc), after that.
  void (*affine_int8)(const AffineMatrix& matrix, uint64_t tile, const ActivationBlock& block, const Output& output);

  // y[t, 0..16) = tile * x[t], weights as apiq_weight_dequantize gives them. Column c goes to partial sum c mod 4 with one fma,
  // in order; the result is (p0 + p1) + (p2 + p3).
  void (*affine_f32)(const AffineMatrix& matrix, uint64_t tile, const float* x, uint64_t x_stride, uint32_t tokens, const Output& output);

  // The same for 16 rows of a dense matrix. Column c goes to partial sum c mod 16 with one fma, in order; the 16 are then added as a
  // tree: l and l+8, l and l+4, l and l+2, l and l+1.
  void (*dense)(const DenseMatrix& matrix, uint64_t tile, const float* x, uint64_t x_stride, uint32_t tokens, const Output& output);

  // y[t, 0..16) = tile * x[t], for any number of tokens. In a group, table[q] * x of column c goes to partial sum c mod 2 with one
  // fma, in order; groups in order: acc = fma(scale, p0 + p1, acc).
  void (*lut)(const LutMatrix& matrix, uint64_t tile, const float* x, uint64_t x_stride, uint32_t tokens, const Output& output);

  // y[r, in_features], rows `stride` floats apart, = rows first_row .. of the matrix: scale * float(q - z), or fma(scale, q, m).
  // For apiq_weight_dequantize, and for apiq_embedding of an affine table.
  void (*dequantize)(const AffineMatrix& matrix, uint32_t first_row, uint32_t rows, float* y, uint64_t stride);
  // The same of a lut matrix: scale * table[q].
  void (*dequantize_lut)(const LutMatrix& matrix, uint32_t first_row, uint32_t rows, float* y, uint64_t stride);
};

const PackedKernels& packed_kernels(Isa isa);

// Register tiles of the int8 kernels, in tokens, and the kernels themselves (int8_*.cpp).
namespace scalar {
constexpr uint32_t int8_tokens = 1;
void affine_int8(const AffineMatrix& matrix, uint64_t tile, const ActivationBlock& block, const Output& output);
extern const PackedKernels kernels;
}  // namespace scalar
namespace avx2 {
constexpr uint32_t int8_tokens = 4;
void affine_int8(const AffineMatrix& matrix, uint64_t tile, const ActivationBlock& block, const Output& output);
extern const PackedKernels kernels;
}  // namespace avx2
namespace avx512 {
constexpr uint32_t int8_tokens = 8;
void affine_int8(const AffineMatrix& matrix, uint64_t tile, const ActivationBlock& block, const Output& output);
extern const PackedKernels kernels;
}  // namespace avx512

}  // namespace apiq::cpu
