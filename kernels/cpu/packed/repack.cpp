#include "repack.h"

#include <algorithm>
#include <cstring>

namespace apiq::cpu {
namespace {

// Value `index` of a little-endian stream of `bits`-bit values in the 32-bit words at `word(0)`, `word(1)`, ...
template <class Word>
uint32_t stream_value(Word word, uint64_t index, uint32_t bits) {
  const uint64_t first_bit = index * bits;
  const uint64_t w = first_bit / 32;
  const uint32_t shift = first_bit % 32;
  uint32_t value = word(w) >> shift;
  if (shift + bits > 32) value |= word(w + 1) << (32 - shift);
  return value & ((1u << bits) - 1);
}

void repack_zeros(const GptqSource& source, const AffineMatrix& matrix, uint32_t first_row, uint32_t rows, std::byte* target) {
  const uint32_t bits = matrix.bits;
  if (matrix.zero == no_zeros) return;
  if (matrix.zero == APIQ_ZERO_FLOAT) {
    const uint16_t* minimums = static_cast<const uint16_t*>(source.zeros) + first_row;
    for (uint32_t g = 0; g < matrix.groups(); g++) {
      std::memcpy(target + matrix.zeros_offset(g), minimums + uint64_t{g} * matrix.out_features, 2 * rows);
    }
    return;
  }
  const uint64_t words = (uint64_t{matrix.out_features} * bits + 31) / 32;
  const uint32_t stored_minus = source.format == APIQ_GPTQ_V1 ? 1 : 0;
  for (uint32_t g = 0; g < matrix.groups(); g++) {
    const uint32_t* const line = static_cast<const uint32_t*>(source.zeros) + g * words;
    uint8_t* const zeros = reinterpret_cast<uint8_t*>(target + matrix.zeros_offset(g));
    for (uint32_t row = 0; row < rows; row++) {
      const uint32_t stored = stream_value([&](uint64_t w) { return line[w]; }, first_row + row, bits);
      const uint32_t zero = (stored + stored_minus) & ((1u << bits) - 1);
      switch (bits) {
        case 2: zeros[row / 4] |= static_cast<uint8_t>(zero << (2 * (row % 4))); break;
        case 8: zeros[row] = static_cast<uint8_t>(zero); break;
        default: zeros[row % 2 * 4 + row / 4] |= static_cast<uint8_t>(zero << (row / 2 % 2 * 4)); break;
      }
    }
  }
}

// One chunk: 32 columns of up to 16 rows. The loops over rows run over neighbouring words of source and target alike.
template <uint32_t bits>
void repack_chunk(const uint32_t* qweight, uint64_t stride, uint32_t rows, uint32_t (*units)[tile_rows]) {
  for (uint32_t column = 0; column < chunk_columns; column++) {
    const uint32_t f = column / 4, j = column % 4;
    const uint32_t first_bit = column * bits, shift = first_bit % 32;
    const uint32_t* const low = qweight + first_bit / 32 * stride;
    const bool crosses = shift + bits > 32;
    uint32_t q[tile_rows];
    for (uint32_t row = 0; row < rows; row++) {
      q[row] = (low[row] >> shift | (crosses ? low[row + stride] << (32 - shift) : 0)) & ((1u << bits) - 1);
    }
    if constexpr (bits == 3) {
      for (uint32_t row = 0; row < rows; row++) {
        units[f / 4][row] |= (q[row] & 3) << (8 * j + 2 * (f % 4));
        units[2][row] |= q[row] >> 2 << (8 * j + f);
      }
    } else {
      constexpr uint32_t fields = 8 / bits;
      for (uint32_t row = 0; row < rows; row++) units[f / fields][row] |= q[row] << (8 * j + bits * (f % fields));
    }
  }
}

template <uint32_t bits>
void repack_fields(const GptqSource& source, const AffineMatrix& matrix, uint32_t first_row, uint32_t rows, std::byte* target) {
  for (uint32_t g = 0; g < matrix.groups(); g++) {
    auto* units = reinterpret_cast<uint32_t(*)[tile_rows]>(target + matrix.chunks_offset(g));
    for (uint32_t column = g * matrix.group; column < (g + 1) * matrix.group; column += chunk_columns, units += bits) {
      const uint64_t word_row = uint64_t{column} / chunk_columns * bits;
      repack_chunk<bits>(source.qweight + word_row * matrix.out_features + first_row, matrix.out_features, rows, units);
    }
  }
}

}  // namespace

void repack_tile(const GptqSource& source, const AffineMatrix& matrix, uint32_t tile, std::byte* target) {
  const uint32_t first_row = tile * tile_rows;
  const uint32_t rows = std::min(tile_rows, matrix.out_features - first_row);
  std::memset(target, 0, matrix.tile_bytes());
  repack_zeros(source, matrix, first_row, rows, target);
  for (uint32_t g = 0; g < matrix.groups(); g++) {
    std::memcpy(target + matrix.scales_offset(g), source.scales + uint64_t{g} * matrix.out_features + first_row, 2 * rows);
  }
  switch (matrix.bits) {
    case 2: repack_fields<2>(source, matrix, first_row, rows, target); break;
    case 3: repack_fields<3>(source, matrix, first_row, rows, target); break;
    case 4: repack_fields<4>(source, matrix, first_row, rows, target); break;
    default: repack_fields<8>(source, matrix, first_row, rows, target); break;
  }
}

}  // namespace apiq::cpu
