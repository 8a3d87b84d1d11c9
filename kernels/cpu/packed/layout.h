// The packed form of an affine matrix W[out_features, in_features]: what apiq_weight_repack writes and every packed kernel reads.
//
// The matrix is cut into tiles of 16 output rows. A tile is one contiguous stream that a kernel reads from front to back:
//
//   tile   | zeros of all groups, padded to 64 B | pair 0 | pair 1 | ...                        tiles follow each other
//   pair   | 16 + 16 float16 scales, 64 B | chunks of group 2p | chunks of group 2p + 1 |       (an odd last group stands alone)
//   chunk  | `bits` units |                                                                      32 columns of 16 rows
//   unit   | row 0 | row 1 | ... | row 15 |                                                      64 B, four bytes a row
//
// One 64-byte load holds four bytes of each of the 16 rows, and a byte holds 8/bits fields:
//
//   2 bits  byte j of unit u (of a chunk)   | col 16u+12+j | col 16u+8+j | col 16u+4+j | col 16u+j |   high bits .. low bits
//   4 bits                                  | col 8u+4+j | col 8u+j |
//   8 bits                                  | col 4u+j |
//   3 bits  units 0, 1: the low two bits, as for 2 bits; unit 2: the high bits, bit f of byte j belongs to col 4f+j
//
// So field f of a chunk (shift, mask) lines up with the four input bytes x[4f .. 4f+3], broadcast to all rows: the operands of
// vpdpbusd, or of vpmaddubsw on each 32-byte half.
//
// Zeros of one group, 16 rows:
//   2 bits       4 B   bits 2r, 2r+1 are row r's: one broadcast dword and one variable shift
//   3 and 4 bits 8 B   two dwords, even rows in the first, odd rows in the second: row r's nibble is r/2
//   8 bits      16 B   a byte a row
//   float m     32 B   a float16 a row
//
// Rows past out_features in the last tile have zero scales, zeros and fields.
//
// A lut matrix is the same without zeros, for 2, 3 and 4 bits, behind a header:
//
//   matrix | 16 float32, 64 B | tile 0 | tile 1 | ...        entry i of the header is table[i mod 2^bits]
#pragma once

#include <cstddef>
#include <cstdint>

#include "apiq.h"

// These functions are compiled into every instruction set's objects: always inlined, so that the linker never picks one set's copy
// for another.
#define APIQ_LAYOUT [[gnu::always_inline]] inline

namespace apiq::cpu {

constexpr uint32_t tile_rows = 16;
constexpr uint32_t unit_bytes = 64;
constexpr uint32_t chunk_columns = 32;
constexpr uint32_t chunk_fields = chunk_columns / 4;
constexpr uint32_t max_group = 128;

APIQ_LAYOUT constexpr uint64_t round_up(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// A kind of zero besides APIQ_ZERO_*: none is stored.
constexpr uint32_t no_zeros = 2;

struct AffineMatrix {
  const std::byte* data = nullptr;
  uint32_t bits = 0;
  uint32_t group = 0;
  uint32_t zero = 0;  // APIQ_ZERO_* or no_zeros
  uint32_t out_features = 0;
  uint32_t in_features = 0;

  APIQ_LAYOUT uint32_t groups() const { return in_features / group; }
  APIQ_LAYOUT uint32_t tiles() const { return (out_features + tile_rows - 1) / tile_rows; }

  APIQ_LAYOUT uint64_t zero_bytes_per_group() const {
    if (zero == no_zeros) return 0;
    if (zero == APIQ_ZERO_FLOAT) return 32;
    return bits == 2 ? 4 : bits == 8 ? 16 : 8;
  }
  APIQ_LAYOUT uint64_t chunk_bytes_per_group() const { return uint64_t{group} / chunk_columns * bits * unit_bytes; }
  APIQ_LAYOUT uint64_t zeros_bytes() const { return round_up(groups() * zero_bytes_per_group(), 64); }
  APIQ_LAYOUT uint64_t pair_bytes() const { return 64 + 2 * chunk_bytes_per_group(); }
  APIQ_LAYOUT uint64_t tile_bytes() const { return zeros_bytes() + (uint64_t{groups()} + 1) / 2 * 64 + groups() * chunk_bytes_per_group(); }
  APIQ_LAYOUT uint64_t bytes() const { return tiles() * tile_bytes(); }

  // Offsets inside a tile.
  APIQ_LAYOUT uint64_t zeros_offset(uint32_t g) const { return g * zero_bytes_per_group(); }
  APIQ_LAYOUT uint64_t scales_offset(uint32_t g) const { return zeros_bytes() + g / 2 * pair_bytes() + g % 2 * 32; }
  APIQ_LAYOUT uint64_t chunks_offset(uint32_t g) const { return zeros_bytes() + g / 2 * pair_bytes() + 64 + g % 2 * chunk_bytes_per_group(); }

  APIQ_LAYOUT const std::byte* tile(uint64_t index) const { return data + index * tile_bytes(); }
};

constexpr uint32_t table_entries = 16;

struct LutMatrix {
  AffineMatrix codes;  // with no_zeros
  const float* table = nullptr;

  static constexpr uint64_t header_bytes = table_entries * sizeof(float);
  APIQ_LAYOUT uint64_t bytes() const { return header_bytes + codes.bytes(); }
};

}  // namespace apiq::cpu

#undef APIQ_LAYOUT
