// The kernels of lut matrices, w = scale * table[q]: products with float32 activations, and dequantised rows. Written once over
// Vec16 and Words; a table of 16 floats is a permutation of one or two registers.
#pragma once

#include "f32_tile.h"

namespace apiq::cpu::APIQ_ISA {

// What look_up needs to find the entry of column c of a chunk, one lane a row: the code in the lowest bits, anything above it.
template <uint32_t bits>
[[gnu::always_inline]] inline Words column_code(const std::byte* chunk, uint32_t c) {
  const uint32_t f = c / 4, j = c % 4;
  if constexpr (bits == 3) {
    const Words low = shift_right(load_words(chunk + f / 4 * unit_bytes), 8 * j + 2 * (f % 4));
    const Words high = load_words(chunk + 2 * unit_bytes);
    return merge(3, low, c < 8 && j == 0 ? shift_left(high, 2 - f) : shift_right(high, 8 * j + f - 2));
  } else {
    constexpr uint32_t fields = 8 / bits;
    return shift_right(load_words(chunk + f / fields * unit_bytes), 8 * j + bits * (f % fields));
  }
}

// Few tokens: every entry is used straight from its register.
template <uint32_t bits, uint32_t tokens>
void lut_row(const LutMatrix& matrix, uint64_t tile_index, const float* x, uint64_t x_stride, const Output& output) {
  const AffineMatrix& codes = matrix.codes;
  const std::byte* const tile = codes.tile(tile_index);
  const Table<bits> table = load_table<bits>(matrix.table);
  Vec16 y[tokens];
  for (Vec16& sum : y) sum = zero();
  for (uint32_t g = 0; g < codes.groups(); g++) {
    const std::byte* chunk = tile + codes.chunks_offset(g);
    Vec16 even[tokens], odd[tokens];
    for (uint32_t t = 0; t < tokens; t++) even[t] = odd[t] = zero();
    for (uint32_t i = 0; i < codes.group; i += chunk_columns, chunk += bits * unit_bytes, x += chunk_columns) {
#pragma GCC unroll 16
      for (uint32_t c = 0; c < chunk_columns; c += 2) {
        const Vec16 first = look_up(table, column_code<bits>(chunk, c));
        for (uint32_t t = 0; t < tokens; t++) even[t] = fma(first, broadcast(x[t * x_stride + c]), even[t]);
        const Vec16 second = look_up(table, column_code<bits>(chunk, c + 1));
        for (uint32_t t = 0; t < tokens; t++) odd[t] = fma(second, broadcast(x[t * x_stride + c + 1]), odd[t]);
      }
    }
    const Vec16 scale = load(reinterpret_cast<const f16*>(tile + codes.scales_offset(g)));
    for (uint32_t t = 0; t < tokens; t++) y[t] = fma(scale, add(even[t], odd[t]), y[t]);
  }
  for (uint32_t t = 0; t < tokens; t++) {
    if (output.bias != nullptr) y[t] = add(y[t], load_n(output.bias, output.columns));
    store_n(output.y + t * output.stride, y[t], output.columns);
  }
}

// Adds a group of 16 rows, its table entries in w[group][16], times x[tokens][group], to y[tokens][16]. With a group known to the
// compiler, every element of x is at a fixed distance from one pointer.
template <uint32_t group, uint32_t tokens>
void add_group(const float* w, Vec16 scale, const float* x, float* y) {
  Vec16 even[tokens], odd[tokens];
#pragma GCC unroll 8
  for (uint32_t t = 0; t < tokens; t++) even[t] = odd[t] = zero();
  for (uint32_t c = 0; c < group; c += 2, w += 2 * tile_rows, x += 2) {
    const Vec16 first = load(w);
#pragma GCC unroll 8
    for (uint32_t t = 0; t < tokens; t++) even[t] = fma(first, broadcast(x[t * group]), even[t]);
    const Vec16 second = load(w + tile_rows);
#pragma GCC unroll 8
    for (uint32_t t = 0; t < tokens; t++) odd[t] = fma(second, broadcast(x[t * group + 1]), odd[t]);
  }
  for (uint32_t t = 0; t < tokens; t++) store(y + t * tile_rows, fma(scale, add(even[t], odd[t]), load(y + t * tile_rows)));
}

// The same for any number of tokens: all of lut_tokens and then, with tokens < lut_tokens, the rest.
template <uint32_t group, uint32_t tokens = lut_tokens>
void add_group_to(uint32_t left, const float* w, Vec16 scale, const float* x, float* y) {
  for (; left >= tokens; left -= tokens, x += tokens * group, y += tokens * tile_rows) add_group<group, tokens>(w, scale, x, y);
  if constexpr (tokens > 1) {
    if (left != 0) add_group_to<group, tokens - 1>(left, w, scale, x, y);
  }
}

// Values of x that share a decoded group. They are copied: rows of x a power of two apart would fall on the same few lines of the
// first-level cache, which holds the copy, the group and the sums.
constexpr uint32_t lut_values = 4096;
constexpr uint32_t min_group = 32;

// At most lut_values / group tokens.
template <uint32_t bits>
void lut_rows(const LutMatrix& matrix, uint64_t tile_index, const float* x, uint64_t x_stride, uint32_t tokens,
              const Output& output) {
  const AffineMatrix& codes = matrix.codes;
  const uint32_t group = codes.group;
  const auto add_to = group == 32 ? add_group_to<32> : group == 64 ? add_group_to<64> : add_group_to<128>;
  const std::byte* const tile = codes.tile(tile_index);
  const Table<bits> table = load_table<bits>(matrix.table);
  alignas(64) float w[max_group * tile_rows];
  alignas(64) float inputs[lut_values];
  alignas(64) float y[lut_values / min_group * tile_rows];
  for (uint32_t i = 0; i < tokens * tile_rows; i += tile_rows) store(y + i, zero());
  for (uint32_t g = 0; g < codes.groups(); g++) {
    const std::byte* chunk = tile + codes.chunks_offset(g);
    for (uint32_t i = 0; i < group; i += chunk_columns, chunk += bits * unit_bytes) {
#pragma GCC unroll 32
      for (uint32_t c = 0; c < chunk_columns; c++) store(w + (i + c) * tile_rows, look_up(table, column_code<bits>(chunk, c)));
    }
    for (uint32_t t = 0; t < tokens; t++) {
      const float* const columns = x + t * x_stride + uint64_t{g} * group;
      for (uint32_t i = 0; i < group; i += 16) store(inputs + t * group + i, load(columns + i));
    }
    const Vec16 scale = load(reinterpret_cast<const f16*>(tile + codes.scales_offset(g)));
    add_to(tokens, w, scale, inputs, y);
  }
  for (uint32_t t = 0; t < tokens; t++) {
    Vec16 sum = load(y + t * tile_rows);
    if (output.bias != nullptr) sum = add(sum, load_n(output.bias, output.columns));
    store_n(output.y + t * output.stride, sum, output.columns);
  }
}

template <uint32_t bits, uint32_t most>
void lut_row_to(const LutMatrix& matrix, uint64_t tile, const float* x, uint64_t x_stride, uint32_t tokens, const Output& output) {
  if constexpr (most > 1) {
    if (tokens < most) return lut_row_to<bits, most - 1>(matrix, tile, x, x_stride, tokens, output);
  }
  lut_row<bits, most>(matrix, tile, x, x_stride, output);
}

template <uint32_t bits>
void lut_bits(const LutMatrix& matrix, uint64_t tile, const float* x, uint64_t x_stride, uint32_t tokens, const Output& output) {
  if (tokens <= lut_row_tokens) return lut_row_to<bits, lut_row_tokens>(matrix, tile, x, x_stride, tokens, output);
  const uint32_t block = lut_values / matrix.codes.group;
  for (uint32_t t = 0; t < tokens; t += block) {
    const uint32_t count = tokens - t < block ? tokens - t : block;
    const Output part{output.y + t * output.stride, output.stride, output.bias, output.columns};
    lut_rows<bits>(matrix, tile, x + t * x_stride, x_stride, count, part);
  }
}

static void lut(const LutMatrix& matrix, uint64_t tile, const float* x, uint64_t x_stride, uint32_t tokens, const Output& output) {
  switch (matrix.codes.bits) {
    case 2: lut_bits<2>(matrix, tile, x, x_stride, tokens, output); break;
    case 3: lut_bits<3>(matrix, tile, x, x_stride, tokens, output); break;
    default: lut_bits<4>(matrix, tile, x, x_stride, tokens, output); break;
  }
}

template <uint32_t bits>
void dequantize_lut_row(const LutMatrix& matrix, uint32_t row, float* y) {
  const AffineMatrix& codes = matrix.codes;
  const std::byte* const tile = codes.tile(row / tile_rows);
  const uint32_t lane = row % tile_rows;
  const Table<bits> table = load_table<bits>(matrix.table);
  for (uint32_t g = 0; g < codes.groups(); g++) {
    const Vec16 scale = broadcast(scale_at(codes, tile, lane, g));
    const std::byte* words = tile + codes.chunks_offset(g) + lane * 4;
    for (uint32_t i = 0; i < codes.group; i += chunk_columns, words += bits * unit_bytes, y += chunk_columns) {
      for (uint32_t k = 0; k < 2; k++) store(y + 16 * k, mul(scale, look_up(table, row_fields<bits>(words, k))));
    }
  }
}

static void dequantize_lut(const LutMatrix& matrix, uint32_t first_row, uint32_t rows, float* y, uint64_t stride) {
  for (uint32_t row = 0; row < rows; row++, y += stride) {
    switch (matrix.codes.bits) {
      case 2: dequantize_lut_row<2>(matrix, first_row + row, y); break;
      case 3: dequantize_lut_row<3>(matrix, first_row + row, y); break;
      default: dequantize_lut_row<4>(matrix, first_row + row, y); break;
    }
  }
}

}  // namespace apiq::cpu::APIQ_ISA
