// How a packed affine matrix lies in device memory.
//
// The matrix is padded with zeros to whole tiles of 32 rows (outputs) by 128 columns (inputs). One warp takes one tile at a
// time, one lane one row of it, so no lane ever needs another's sum, and the 32 lanes read the same 16 bytes of x at once.
// Tiles of the same 32 rows follow each other along `in`; each is one run of memory:
//
//   codes    bits x [32 lanes][4 words]    load j of lane l is the 16 bytes at (32 j + l) * 16: a warp reads 512 bytes in a row
//   scales   [32 lanes][128/group] float16
//   zeros    integer: [32 lanes] records of 128/group x bits bits, in 1, 2 or 4 bytes;   float: [32 lanes][128/group] float16
//
// A lane's 128 codes are 4 chunks of 32, a chunk is `bits` words: chunk c has words c*bits .. of the lane's 4*bits, and word w is
// component w % 4 of load w / 4. A group is at least one chunk long, so a chunk has one scale and one zero. Within a chunk
//
//   2, 4, 8 bits   code k at bit k*bits of the chunk, as GPTQ has it: every code is one and-or away from a float (see codes.cuh)
//   3 bits         words 0, 1: the low two bits as a 2-bit chunk; word 2: bit 2*(k % 16) + (k / 16) is code k's third
//
// 2 bits, groups of 64, integer zeros: 1184 bytes for 4096 weights, 2.31 bits each.
#pragma once

#include <cstdint>

#include "../common/plans/weight.h"

namespace apiq::cuda {

constexpr uint32_t tile_rows = 32;
constexpr uint32_t tile_columns = 128;
constexpr uint32_t chunk_codes = 32;
constexpr uint32_t chunks_per_tile = tile_columns / chunk_codes;

// A matrix's shape and where the parts of its tiles are, in 32-bit words. Made on the host, passed to kernels by value.
struct AffineLayout {
  uint32_t bits;
  uint32_t float_zero;  // 1: APIQ_ZERO_FLOAT
  uint32_t group;
  uint32_t groups;  // of a lane's 128 columns: 1, 2 or 4
  uint32_t zero_record_bytes;
  uint32_t scale_word;  // first word of the scales in a tile
  uint32_t zero_word;
  uint32_t tile_words;
  uint32_t out_features;
  uint32_t in_features;
  uint32_t row_tiles;
  uint32_t column_tiles;
};

inline AffineLayout affine_layout(const WeightPlan& weight) {
  AffineLayout layout{};
  layout.bits = weight.bits;
  layout.float_zero = weight.zero == APIQ_ZERO_FLOAT ? 1 : 0;
  layout.group = weight.group;
  layout.groups = tile_columns / weight.group;
  const uint32_t zero_bits = layout.groups * weight.bits;
  layout.zero_record_bytes = layout.float_zero != 0 ? 2 * layout.groups : zero_bits <= 8 ? 1 : zero_bits <= 16 ? 2 : 4;
  layout.scale_word = tile_rows * chunks_per_tile * weight.bits;
  layout.zero_word = layout.scale_word + tile_rows * layout.groups / 2;
  layout.tile_words = layout.zero_word + tile_rows * layout.zero_record_bytes / 4;
  layout.out_features = weight.out_features;
  layout.in_features = weight.in_features;
  layout.row_tiles = (weight.out_features + tile_rows - 1) / tile_rows;
  layout.column_tiles = (weight.in_features + tile_columns - 1) / tile_columns;
  return layout;
}

inline uint64_t affine_words(const AffineLayout& layout) {
  return uint64_t{layout.row_tiles} * layout.column_tiles * layout.tile_words;
}

}  // namespace apiq::cuda
