// From packed codes to floats in registers; affine_layout.h draws what is read here.
#pragma once

#include "affine_layout.h"
#include "device.cuh"

namespace apiq::cuda {

// A float's bits are 2^23 + q when a small integer q stands at bit 0 of 2^23's mantissa. A code need not be moved there: standing
// at bit s it makes 2^(23-s) + q of a float with the exponent of 2^(23-s), so extracting is one and-or with constants and one
// exact subtraction. That holds while the code ends below bit 23; the upper half of a word is shifted down once for all.
template <uint32_t mask, uint32_t shift>
APIQ_DEVICE float code_at(uint32_t half_word) {
  constexpr uint32_t exponent = (127 + 23 - shift) << 23;
  return float_from_bits((half_word & (mask << shift)) | exponent) - static_cast<float>(1u << (23 - shift));
}

template <uint32_t bits, uint32_t index = 0>
APIQ_DEVICE void codes_of_half_word(uint32_t half_word, float* codes) {
  if constexpr (index < 16 / bits) {
    codes[index] = code_at<(1u << bits) - 1, index * bits>(half_word);
    codes_of_half_word<bits, index + 1>(half_word, codes);
  }
}

// Same for 3 bits: `third` has the third bit of the code at bit s of `half_word` at bit s + 2.
template <uint32_t index = 0>
APIQ_DEVICE void codes_of_split_half_word(uint32_t half_word, uint32_t third, float* codes) {
  if constexpr (index < 8) {
    constexpr uint32_t low = 3u << (2 * index);
    codes[index] = code_at<7, 2 * index>((half_word & low) | (third & (4u << (2 * index))));
    codes_of_split_half_word<index + 1>(half_word, third, codes);
  }
}

// Codes 8 * quarter .. 8 * quarter + 7 of a chunk, from the chunk's words.
template <uint32_t bits>
APIQ_DEVICE void eight_codes(const uint32_t* words, uint32_t quarter, float* codes) {
  if constexpr (bits == 3) {
    const uint32_t word = words[quarter / 2];
    const uint32_t third = words[2];
    // Word 0's third bits stand at even places, word 1's at odd ones; bit 2 is where the first code's belongs.
    if (quarter == 0) codes_of_split_half_word(word, third << 2, codes);
    if (quarter == 1) codes_of_split_half_word(word >> 16, third >> 14, codes);
    if (quarter == 2) codes_of_split_half_word(word, third << 1, codes);
    if (quarter == 3) codes_of_split_half_word(word >> 16, third >> 15, codes);
  } else {
    constexpr uint32_t per_half = 16 / bits;
    APIQ_UNROLL
    for (uint32_t i = 0; i < 8; i += per_half) {
      const uint32_t half = (8 * quarter + i) / per_half;
      codes_of_half_word<bits>(half % 2 == 0 ? words[half / 2] : words[half / 2] >> 16, codes + i);
    }
  }
}

// One code of a chunk as an integer, for paths where speed does not matter.
APIQ_DEVICE uint32_t code_of_chunk(const uint32_t* words, uint32_t bits, uint32_t k) {
  if (bits == 3) return ((words[k / 16] >> (2 * (k % 16))) & 3u) | (((words[2] >> (2 * (k % 16) + k / 16)) & 1u) << 2);
  return (words[k * bits / 32] >> (k * bits % 32)) & ((1u << bits) - 1u);
}

// Where a matrix's words are; `tile` counts along `in` first.
struct TileReader {
  Global<const uint32_t> words;
  AffineLayout layout;

  // Word w of the lane's 4 * bits.
  APIQ_DEVICE uint32_t code_word(uint64_t tile, uint32_t lane, uint32_t w) const {
    return words.load(tile * layout.tile_words + (w / 4 * tile_rows + lane) * 4 + w % 4);
  }
  APIQ_DEVICE float half_at(uint64_t word, uint32_t half) const {
    return half_to_float(static_cast<uint16_t>(words.load(word + half / 2) >> (16 * (half % 2))));
  }
  APIQ_DEVICE float scale(uint64_t tile, uint32_t lane, uint32_t chunk) const {
    return half_at(tile * layout.tile_words + layout.scale_word, lane * layout.groups + chunk * layout.groups / chunks_per_tile);
  }
  APIQ_DEVICE float zero(uint64_t tile, uint32_t lane, uint32_t chunk) const {
    const uint32_t group = chunk * layout.groups / chunks_per_tile;
    const uint64_t first = tile * layout.tile_words + layout.zero_word;
    if (layout.float_zero != 0) return half_at(first, lane * layout.groups + group);
    const uint32_t byte = lane * layout.zero_record_bytes;
    const uint32_t record = words.load(first + byte / 4) >> (8 * (byte % 4));
    return static_cast<float>((record >> (group * layout.bits)) & ((1u << layout.bits) - 1u));
  }

  // One element: scale * (q - z), or fma(scale, q, m).
  APIQ_DEVICE float element(uint32_t row, uint32_t column) const {
    const uint64_t tile = static_cast<uint64_t>(row / tile_rows) * layout.column_tiles + column / tile_columns;
    const uint32_t lane = row % tile_rows;
    const uint32_t chunk = column % tile_columns / chunk_codes;
    uint32_t chunk_words[8];
    for (uint32_t i = 0; i < layout.bits; i++) chunk_words[i] = code_word(tile, lane, chunk * layout.bits + i);
    const float code = static_cast<float>(code_of_chunk(chunk_words, layout.bits, column % chunk_codes));
    const float scale_of_chunk = scale(tile, lane, chunk);
    const float zero_of_chunk = zero(tile, lane, chunk);
    return layout.float_zero != 0 ? fma(scale_of_chunk, code, zero_of_chunk) : scale_of_chunk * (code - zero_of_chunk);
  }
};

}  // namespace apiq::cuda
