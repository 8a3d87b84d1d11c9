// The int8 kernel without SIMD: the oracle of the other two.
#include "../../common/half.h"
#include "fields.h"
#include "kernels.h"

namespace apiq::cpu::scalar {

void affine_int8(const AffineMatrix& matrix, uint64_t tile, const ActivationBlock& block, const Output& output) {
  const std::byte* const data = matrix.tile(tile);
  for (uint32_t t = 0; t < block.tokens; t++) {
    for (uint32_t row = 0; row < output.columns; row++) {
      float sum = 0;
      for (uint32_t g = 0; g < matrix.groups(); g++) {
        const uint32_t group = g * block.tokens + t;
        int32_t dot = 0;
        for (uint32_t column = g * matrix.group; column < (g + 1) * matrix.group; column++) {
          dot += static_cast<int32_t>(field_at(matrix, data, row, column)) * block.q[(column / 4 * block.tokens + t) * 4 + column % 4];
        }
        if (matrix.zero == APIQ_ZERO_INTEGER) dot += static_cast<int32_t>(zero_at(matrix, data, row, g)) * block.negative_sum[group];
        sum = __builtin_fmaf(static_cast<float>(dot), scale_at(matrix, data, row, g) * block.scale[group], sum);
        if (matrix.zero == APIQ_ZERO_FLOAT) sum = __builtin_fmaf(minimum_at(matrix, data, row, g), block.scaled_sum[group], sum);
      }
      output.y[t * output.stride + row] = output.bias == nullptr ? sum : sum + output.bias[row];
    }
  }
}

}  // namespace apiq::cpu::scalar
