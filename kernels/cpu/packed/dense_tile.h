// The dense kernel, written once over Vec16: 16 rows of a row-major matrix times a few tokens.
#pragma once

#include "kernels.h"

namespace apiq::cpu::APIQ_ISA {

constexpr uint32_t dense_tokens = 4;

// A register tile of `rows` x `tokens` sums runs over all columns; rows past the end repeat the last one and are not stored.
template <uint32_t rows, uint32_t tokens, class T>
[[gnu::always_inline]] inline void dense_block(const T* const (&w)[rows], uint32_t in_features, const float* x, uint64_t x_stride,
                                               float (&y)[tokens][rows]) {
  Vec16 sum[rows][tokens];
  for (uint32_t r = 0; r < rows; r++) {
    for (uint32_t t = 0; t < tokens; t++) sum[r][t] = zero();
  }
  uint32_t column = 0;
  for (; column + 16 <= in_features; column += 16) {
    Vec16 input[tokens];
    for (uint32_t t = 0; t < tokens; t++) input[t] = load(x + t * x_stride + column);
    for (uint32_t r = 0; r < rows; r++) {
      const Vec16 weights = load(w[r] + column);
      for (uint32_t t = 0; t < tokens; t++) sum[r][t] = fma(weights, input[t], sum[r][t]);
    }
  }
  if (const uint32_t left = in_features - column; left != 0) {
    for (uint32_t r = 0; r < rows; r++) {
      const Vec16 weights = load_n(w[r] + column, left);
      for (uint32_t t = 0; t < tokens; t++) sum[r][t] = fma(weights, load_n(x + t * x_stride + column, left), sum[r][t]);
    }
  }
  for (uint32_t r = 0; r < rows; r++) {
    for (uint32_t t = 0; t < tokens; t++) y[t][r] = apiq::cpu::APIQ_ISA::sum(sum[r][t]);
  }
}

template <uint32_t tokens, class T>
void dense_rows(const DenseMatrix& matrix, uint64_t tile, const float* x, uint64_t x_stride, const Output& output) {
  constexpr uint32_t rows = 4;
  const T* const first = reinterpret_cast<const T*>(matrix.data) + tile * tile_rows * matrix.in_features;
  for (uint32_t row = 0; row < output.columns; row += rows) {
    const T* w[rows];
    for (uint32_t r = 0; r < rows; r++) {
      const uint32_t index = row + r < output.columns ? row + r : output.columns - 1;
      w[r] = first + uint64_t{index} * matrix.in_features;
    }
    float y[tokens][rows];
    dense_block<rows, tokens, T>(w, matrix.in_features, x, x_stride, y);
    for (uint32_t t = 0; t < tokens; t++) {
      for (uint32_t r = 0; r < rows && row + r < output.columns; r++) {
        output.y[t * output.stride + row + r] = output.bias == nullptr ? y[t][r] : y[t][r] + output.bias[row + r];
      }
    }
  }
}

template <class T>
void dense_dtype(const DenseMatrix& matrix, uint64_t tile, const float* x, uint64_t x_stride, uint32_t tokens, const Output& output) {
  switch (tokens) {
    case 1: dense_rows<1, T>(matrix, tile, x, x_stride, output); break;
    case 2: dense_rows<2, T>(matrix, tile, x, x_stride, output); break;
    case 3: dense_rows<3, T>(matrix, tile, x, x_stride, output); break;
    default: dense_rows<4, T>(matrix, tile, x, x_stride, output); break;
  }
}

static void dense(const DenseMatrix& matrix, uint64_t tile, const float* x, uint64_t x_stride, uint32_t tokens, const Output& output) {
  switch (matrix.dtype) {
    case APIQ_F16: dense_dtype<f16>(matrix, tile, x, x_stride, tokens, output); break;
    case APIQ_BF16: dense_dtype<bf16>(matrix, tile, x, x_stride, tokens, output); break;
    default: dense_dtype<float>(matrix, tile, x, x_stride, tokens, output); break;
  }
}

}  // namespace apiq::cpu::APIQ_ISA
