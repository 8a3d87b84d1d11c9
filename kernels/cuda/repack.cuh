// GPTQ's layout -> tiles, and tiles -> float32. Both follow affine_layout.h literally; neither is on the path of a token.
#pragma once

#include "codes.cuh"

namespace apiq::cuda {

struct RepackArgs {
  Global<const uint32_t> qweight;
  Global<const uint32_t> qzeros;   // integer zeros
  Global<const uint16_t> mins;     // float zeros
  Global<const uint16_t> scales;
  Global<uint32_t> target;
  AffineLayout layout;
  uint32_t zero_words;       // of a row of qzeros
  uint32_t zero_correction;  // 1 where qzeros hold z - 1
};

// One thread per (row of the tile, chunk).
constexpr uint32_t repack_threads = tile_rows * chunks_per_tile;

APIQ_DEVICE uint32_t integer_zero(const RepackArgs& a, uint32_t group, uint32_t row) {
  const uint64_t line = uint64_t{group} * a.zero_words;
  const uint32_t bit = row % 32 * a.layout.bits;
  const uint64_t word = uint64_t{row / 32} * a.layout.bits + bit / 32;
  uint32_t value = a.qzeros.load(line + word) >> (bit % 32);
  if (bit % 32 + a.layout.bits > 32) value |= a.qzeros.load(line + word + 1) << (32 - bit % 32);
  return (value + a.zero_correction) & ((1u << a.layout.bits) - 1u);
}

// The scale (or min) of a lane's g-th group in a tile; 0 in the padding.
APIQ_DEVICE uint32_t half_of_group(const RepackArgs& a, const Global<const uint16_t>& halves, uint32_t row, uint32_t group) {
  if (row >= a.layout.out_features || group * a.layout.group >= a.layout.in_features) return 0;
  return halves.load(uint64_t{group} * a.layout.out_features + row);
}

APIQ_DEVICE void repack_codes(const RepackArgs& a, uint64_t tile, uint32_t lane, uint32_t chunk, uint32_t row, uint32_t column) {
  const uint32_t bits = a.layout.bits;
  uint32_t source[8] = {};
  if (row < a.layout.out_features && column < a.layout.in_features) {
    const uint64_t first = uint64_t{column / chunk_codes} * bits;
    for (uint32_t i = 0; i < bits; i++) source[i] = a.qweight.load((first + i) * a.layout.out_features + row);
  }
  if (bits == 3) {
    uint32_t low[2] = {};
    uint32_t third = 0;
    for (uint32_t k = 0; k < chunk_codes; k++) {
      const uint32_t bit = 3 * k;
      uint32_t code = source[bit / 32] >> (bit % 32);
      if (bit % 32 > 29) code |= source[bit / 32 + 1] << (32 - bit % 32);
      low[k / 16] |= (code & 3u) << (2 * (k % 16));
      third |= ((code >> 2) & 1u) << (2 * (k % 16) + k / 16);
    }
    source[0] = low[0];
    source[1] = low[1];
    source[2] = third;
  }
  for (uint32_t i = 0; i < bits; i++) {
    const uint32_t w = chunk * bits + i;
    a.target.store(tile * a.layout.tile_words + (w / 4 * tile_rows + lane) * 4 + w % 4, source[i]);
  }
}

// Grid: a block per tile.
APIQ_KERNEL(repack_threads) repack_kernel(RepackArgs a) {
  const AffineLayout& layout = a.layout;
  const uint32_t tile = block_index_x();
  const uint32_t first_row = tile / layout.column_tiles * tile_rows;
  const uint32_t first_column = tile % layout.column_tiles * tile_columns;
  const uint32_t first_group = first_column / layout.group;
  const uint32_t thread = thread_index();
  const uint32_t lane = thread % tile_rows;
  const uint32_t chunk = thread / tile_rows;
  repack_codes(a, tile, lane, chunk, first_row + lane, first_column + chunk * chunk_codes);

  // The rest is written in words, two halves or several records at a time.
  const uint32_t half_words = tile_rows * layout.groups / 2;
  if (thread < half_words) {
    uint32_t scales = 0;
    uint32_t mins = 0;
    for (uint32_t i = 0; i < 2; i++) {
      const uint32_t half = 2 * thread + i;
      const uint32_t row = first_row + half / layout.groups;
      const uint32_t group = first_group + half % layout.groups;
      scales |= half_of_group(a, a.scales, row, group) << (16 * i);
      if (layout.float_zero != 0) mins |= half_of_group(a, a.mins, row, group) << (16 * i);
    }
    a.target.store(uint64_t{tile} * layout.tile_words + layout.scale_word + thread, scales);
    if (layout.float_zero != 0) a.target.store(uint64_t{tile} * layout.tile_words + layout.zero_word + thread, mins);
  }
  if (layout.float_zero == 0 && thread < tile_rows * layout.zero_record_bytes / 4) {
    uint32_t word = 0;
    for (uint32_t byte = 0; byte < 4; byte += layout.zero_record_bytes) {
      const uint32_t row = first_row + (4 * thread + byte) / layout.zero_record_bytes;
      for (uint32_t g = 0; g < layout.groups && row < layout.out_features; g++) {
        const uint32_t group = first_group + g;
        if (group * layout.group < layout.in_features) word |= integer_zero(a, group, row) << (8 * byte + g * layout.bits);
      }
    }
    a.target.store(uint64_t{tile} * layout.tile_words + layout.zero_word + thread, word);
  }
}

struct DequantizeArgs {
  TileReader weight;
  Global<float> y;  // [n_rows, in_features]
  uint32_t first_row;
  uint32_t blocks_per_row;
};

constexpr uint32_t dequantize_threads = 128;

// Grid: blocks_per_row blocks for each row; a thread makes one element.
APIQ_KERNEL(dequantize_threads) dequantize_kernel(DequantizeArgs a) {
  const AffineLayout& layout = a.weight.layout;
  const uint32_t column = block_index_x() % a.blocks_per_row * dequantize_threads + thread_index();
  if (column >= layout.in_features) return;
  const uint32_t y_row = block_index_x() / a.blocks_per_row;
  const uint32_t row = a.first_row + y_row;
  a.y.store(uint64_t{y_row} * layout.in_features + column, a.weight.element(row, column));
}

}  // namespace apiq::cuda
