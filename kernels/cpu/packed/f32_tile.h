// The float32 kernels of packed matrices: products with exact activations, and dequantised rows. Written once over Vec16 and Words.
#pragma once

#include "fields.h"
#include "kernels.h"

namespace apiq::cpu::APIQ_ISA {

// The fields of column 4f + j of a chunk, one lane a row.
template <uint32_t bits>
[[gnu::always_inline]] inline Words column_fields(const std::byte* chunk, uint32_t f, uint32_t j) {
  if constexpr (bits == 3) {
    const Words low = keep(shift_right(load_words(chunk + f / 4 * unit_bytes), 8 * j + 2 * (f % 4)), 3);
    const Words high = keep(shift_right(load_words(chunk + 2 * unit_bytes), 8 * j + f), 1);
    return either(low, shift_left(high, 2));
  } else {
    constexpr uint32_t fields = 8 / bits;
    return keep(shift_right(load_words(chunk + f / fields * unit_bytes), 8 * j + bits * (f % fields)), (1u << bits) - 1);
  }
}

struct alignas(64) LaneShifts {
  uint32_t count[16];
};

// The zeros of a group, one lane a row, from where its zeros begin (layout.h).
template <uint32_t bits>
[[gnu::always_inline]] inline Vec16 zeros_of(const std::byte* zeros) {
  constexpr auto shifts_of = [](auto f) {
    LaneShifts shifts{};
    for (uint32_t row = 0; row < tile_rows; row++) shifts.count[row] = f(row);
    return shifts;
  };
  const auto* const word = reinterpret_cast<const uint32_t*>(zeros);
  if constexpr (bits == 2) {
    static constexpr LaneShifts shifts = shifts_of([](uint32_t row) { return 2 * row; });
    return to_float(keep(shift_right(spread(*word, *word, *word, *word), load_words(&shifts)), 3));
  } else if constexpr (bits == 8) {
    static constexpr LaneShifts shifts = shifts_of([](uint32_t row) { return 8 * (row % 4); });
    return to_float(keep(shift_right(spread(word[0], word[1], word[2], word[3]), load_words(&shifts)), 255));
  } else {
    static constexpr LaneShifts shifts = shifts_of([](uint32_t row) { return 4 * (row / 2); });
    const auto nibbles = [&](uint32_t w) { return to_float(keep(shift_right(spread(w, w, w, w), load_words(&shifts)), 15)); };
    constexpr uint32_t even_rows = 0x5555;
    return select(even_rows, nibbles(word[0]), nibbles(word[1]));
  }
}

// Adds the columns 4i + j to sum[t]. All of one j are done before the next begins: one sum a token is all the registers must hold.
template <uint32_t bits, bool float_zero, uint32_t tokens>
[[gnu::always_inline]] inline void add_columns(const AffineMatrix& matrix, const std::byte* tile, uint32_t j, const float* x, uint64_t x_stride,
                                               Vec16 (&sum)[tokens]) {
  for (uint32_t g = 0; g < matrix.groups(); g++) {
    const Vec16 scale = load(reinterpret_cast<const f16*>(tile + matrix.scales_offset(g)));
    const std::byte* const zeros = tile + matrix.zeros_offset(g);
    Vec16 offset;
    if constexpr (float_zero) {
      offset = load(reinterpret_cast<const f16*>(zeros));
    } else {
      offset = zeros_of<bits>(zeros);
    }
    const std::byte* chunk = tile + matrix.chunks_offset(g);
    const float* column = x + uint64_t{g} * matrix.group + j;
    for (uint32_t i = 0; i < matrix.group; i += chunk_columns, chunk += bits * unit_bytes) {
#pragma GCC unroll 8
      for (uint32_t f = 0; f < chunk_fields; f++, column += 4) {
        const Vec16 q = to_float(column_fields<bits>(chunk, f, j));
        const Vec16 w = float_zero ? fma(scale, q, offset) : mul(scale, sub(q, offset));
        for (uint32_t t = 0; t < tokens; t++) sum[t] = fma(w, broadcast(column[t * x_stride]), sum[t]);
      }
    }
  }
}

struct F32Tile {
  template <uint32_t bits, bool float_zero, uint32_t tokens>
  [[gnu::noinline]] static void run(const AffineMatrix& matrix, uint64_t tile, const float* x, uint64_t x_stride, const Output& output) {
    Vec16 partial[4][tokens];
    for (uint32_t j = 0; j < 4; j++) {
      Vec16 sum[tokens];
      for (uint32_t t = 0; t < tokens; t++) sum[t] = zero();
      add_columns<bits, float_zero, tokens>(matrix, matrix.tile(tile), j, x, x_stride, sum);
      for (uint32_t t = 0; t < tokens; t++) partial[j][t] = sum[t];
    }
    for (uint32_t t = 0; t < tokens; t++) {
      Vec16 y = add(add(partial[0][t], partial[1][t]), add(partial[2][t], partial[3][t]));
      if (output.bias != nullptr) y = add(y, load_n(output.bias, output.columns));
      store_n(output.y + t * output.stride, y, output.columns);
    }
  }
};

// Lane l of the `span` columns that begin at field 4i of a row: how far to shift its word.
//   2 bits: one word has 16 columns; 4 bits: two words of 8; 8 bits: four words of 4; 3 bits: as 2, the high bits in another word.
template <uint32_t bits>
constexpr LaneShifts lane_shifts() {
  LaneShifts shifts{};
  for (uint32_t lane = 0; lane < 16; lane++) shifts.count[lane] = 8 * (lane % 4) + bits * (lane / 4 % (8 / bits));
  return shifts;
}

// The fields of columns 16k .. 16k + 15 of a chunk, one lane a column; `words` is the row's first word.
template <uint32_t bits>
[[gnu::always_inline]] inline Words row_fields(const std::byte* words, uint32_t k) {
  static constexpr LaneShifts shifts = lane_shifts<bits == 3 ? 2 : bits>();
  const auto word = [&](uint32_t unit) { return *reinterpret_cast<const uint32_t*>(words + unit * unit_bytes); };
  if constexpr (bits == 3) {
    static constexpr LaneShifts bit_shifts = lane_shifts<1>();
    const uint32_t low = word(k), high = word(2) >> (4 * k);
    const Words q = keep(shift_right(spread(low, low, low, low), load_words(&shifts)), 3);
    return either(q, shift_left(keep(shift_right(spread(high, high, high, high), load_words(&bit_shifts)), 1), 2));
  } else {
    constexpr uint32_t units = bits / 2;  // words for 16 columns
    const uint32_t first = k * units;
    const Words spread_words = spread(word(first), word(first + units / 4), word(first + units / 2), word(first + units * 3 / 4));
    return keep(shift_right(spread_words, load_words(&shifts)), (1u << bits) - 1);
  }
}

template <uint32_t bits>
void dequantize_row(const AffineMatrix& matrix, uint32_t row, float* y) {
  const std::byte* const tile = matrix.tile(row / tile_rows);
  const uint32_t lane = row % tile_rows;
  for (uint32_t g = 0; g < matrix.groups(); g++) {
    const Vec16 scale = broadcast(scale_at(matrix, tile, lane, g));
    const bool float_zero = matrix.zero == APIQ_ZERO_FLOAT;
    const uint32_t z = float_zero ? 0 : zero_at(matrix, tile, lane, g);
    const Vec16 minimum = broadcast(float_zero ? minimum_at(matrix, tile, lane, g) : 0.0f);
    const Words zeros = spread(z, z, z, z);
    const std::byte* words = tile + matrix.chunks_offset(g) + lane * 4;
    for (uint32_t i = 0; i < matrix.group; i += chunk_columns, words += bits * unit_bytes, y += chunk_columns) {
      for (uint32_t k = 0; k < 2; k++) {
        const Words q = row_fields<bits>(words, k);
        store(y + 16 * k, float_zero ? fma(scale, to_float(q), minimum) : mul(scale, to_float(minus(q, zeros))));
      }
    }
  }
}

static void dequantize(const AffineMatrix& matrix, uint32_t first_row, uint32_t rows, float* y, uint64_t stride) {
  for (uint32_t row = 0; row < rows; row++, y += stride) {
    switch (matrix.bits) {
      case 2: dequantize_row<2>(matrix, first_row + row, y); break;
      case 3: dequantize_row<3>(matrix, first_row + row, y); break;
      case 4: dequantize_row<4>(matrix, first_row + row, y); break;
      default: dequantize_row<8>(matrix, first_row + row, y); break;
    }
  }
}

}  // namespace apiq::cpu::APIQ_ISA
