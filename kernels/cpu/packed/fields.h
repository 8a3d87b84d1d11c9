// One element at a time out of a packed tile (`tile` is AffineMatrix::tile): the readable definition of the layout's bits.
#pragma once

#include "../../common/half.h"
#include "layout.h"

namespace apiq::cpu {

// q of row 0..15 of the tile and any column.
static inline uint32_t field_at(const AffineMatrix& matrix, const std::byte* tile, uint32_t row, uint32_t column) {
  const uint32_t in_group = column % matrix.group;
  const uint32_t in_chunk = in_group % chunk_columns;
  const std::byte* const chunk = tile + matrix.chunks_offset(column / matrix.group) + in_group / chunk_columns * matrix.bits * unit_bytes;
  const auto byte_of = [&](uint32_t unit) { return static_cast<uint32_t>(chunk[unit * unit_bytes + row * 4 + column % 4]); };
  const uint32_t f = in_chunk / 4;
  if (matrix.bits == 3) return (byte_of(f / 4) >> (2 * (f % 4)) & 3) | (byte_of(2) >> f & 1) << 2;
  const uint32_t fields = 8 / matrix.bits;
  return byte_of(f / fields) >> (matrix.bits * (f % fields)) & ((1u << matrix.bits) - 1);
}

static inline uint32_t zero_at(const AffineMatrix& matrix, const std::byte* tile, uint32_t row, uint32_t g) {
  const std::byte* const zeros = tile + matrix.zeros_offset(g);
  switch (matrix.bits) {
    case 2: return static_cast<uint32_t>(zeros[row / 4]) >> (2 * (row % 4)) & 3;
    case 8: return static_cast<uint32_t>(zeros[row]);
    default: return static_cast<uint32_t>(zeros[row % 2 * 4 + row / 4]) >> (row / 2 % 2 * 4) & 15;
  }
}

static inline float minimum_at(const AffineMatrix& matrix, const std::byte* tile, uint32_t row, uint32_t g) {
  return to_float(reinterpret_cast<const f16*>(tile + matrix.zeros_offset(g))[row]);
}

static inline float scale_at(const AffineMatrix& matrix, const std::byte* tile, uint32_t row, uint32_t g) {
  return to_float(reinterpret_cast<const f16*>(tile + matrix.scales_offset(g))[row]);
}

}  // namespace apiq::cpu
