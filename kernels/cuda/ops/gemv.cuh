// Packed linear for few rows: y[r, o] = sum over i of x[r, i] * W[o, i] (+ bias[o]), float32 throughout.
//
// A block of 8 warps owns one row tile (32 outputs) and one stretch of `in`. It walks its stretch in stages of 1024 inputs:
// the block puts the stage of x into shared memory together with the sum of every chunk of 32, then each warp takes the one
// tile of its 128 columns. Inside a chunk the zero is left out, sum(x (q - z)) = sum(x q) - z sum(x), so a weight costs an and-or,
// a subtraction and one fma per row.
//
//   order of a sum:  in a lane by chunk, and in a chunk by position;  then the 8 warps in order;  then the stretches in order
//
// The stretches depend on (out, in) alone, so a row's result does not depend on the other rows.
#pragma once

#include "../codes.cuh"

namespace apiq::cuda {

constexpr uint32_t gemv_warps = 8;
constexpr uint32_t gemv_threads = gemv_warps * warp_threads;
constexpr uint32_t stage_columns = gemv_warps * tile_columns;
constexpr uint32_t stage_chunks = stage_columns / chunk_codes;
constexpr uint32_t gemv_max_rows = 8;

struct GemvArgs {
  TileReader weight;
  Global<const float> x;     // [rows, in]
  Global<const float> bias;  // [out] or absent
  Global<float> y;           // [rows, out]
  Global<float> partials;    // [stretches, rows, out]; absent where there is one stretch
  uint32_t rows;             // 1 .. the kernel's max_rows
  uint32_t stages_per_stretch;
};

// A stage of x into shared memory, zeros where it reaches past `in` or past the rows; and the sum of every chunk.
template <uint32_t max_rows>
APIQ_DEVICE void load_stage(const GemvArgs& a, uint32_t first_column, const Shared<float>& x, const Shared<float>& sums) {
  const uint32_t lane = thread_index() % warp_threads;
  for (uint32_t chunk = thread_index() / warp_threads; chunk < max_rows * stage_chunks; chunk += gemv_warps) {
    const uint32_t row = chunk / stage_chunks;
    const uint32_t column = first_column + chunk % stage_chunks * chunk_codes + lane;
    const bool inside = row < a.rows && column < a.weight.layout.in_features;
    const float value = inside ? a.x.load(uint64_t{row} * a.weight.layout.in_features + column) : 0.0f;
    x.store(chunk * chunk_codes + lane, value);
    const float sum = warp_sum(value);
    if (lane == 0) sums.store(chunk, sum);
  }
}

// One lane's 128 codes, loaded before x is waited for.
template <uint32_t bits>
struct LaneTile {
  uint32_t words[4 * bits];
  float scale[chunks_per_tile];
  float offset[chunks_per_tile];  // w = scale * q + offset

  APIQ_DEVICE void load(const TileReader& weight, uint64_t tile, uint32_t lane) {
    APIQ_UNROLL
    for (uint32_t j = 0; j < bits; j++) {
      const Vec4<uint32_t> four = weight.words.load4_once(tile * weight.layout.tile_words + (j * tile_rows + lane) * 4);
      words[4 * j] = four.x;
      words[4 * j + 1] = four.y;
      words[4 * j + 2] = four.z;
      words[4 * j + 3] = four.w;
    }
    APIQ_UNROLL
    for (uint32_t chunk = 0; chunk < chunks_per_tile; chunk++) {
      scale[chunk] = weight.scale(tile, lane, chunk);
      const float zero = weight.zero(tile, lane, chunk);
      offset[chunk] = weight.layout.float_zero != 0 ? zero : -(scale[chunk] * zero);  // exact: 11 by 8 bits
    }
  }
};

template <uint32_t bits, uint32_t max_rows>
APIQ_DEVICE void multiply_tile(const LaneTile<bits>& tile, uint32_t warp, const Shared<float>& x, const Shared<float>& sums,
                               float* totals) {
  APIQ_UNROLL
  for (uint32_t chunk = 0; chunk < chunks_per_tile; chunk++) {
    float dots[max_rows] = {};
    APIQ_UNROLL
    for (uint32_t quarter = 0; quarter < 4; quarter++) {
      float codes[8];
      eight_codes<bits>(tile.words + chunk * bits, quarter, codes);
      APIQ_UNROLL
      for (uint32_t row = 0; row < max_rows; row++) {
        const uint32_t first = row * stage_columns + warp * tile_columns + chunk * chunk_codes + quarter * 8;
        const Vec4<float> low = x.load4(first);
        const Vec4<float> high = x.load4(first + 4);
        dots[row] = fma(codes[0], low.x, dots[row]);
        dots[row] = fma(codes[1], low.y, dots[row]);
        dots[row] = fma(codes[2], low.z, dots[row]);
        dots[row] = fma(codes[3], low.w, dots[row]);
        dots[row] = fma(codes[4], high.x, dots[row]);
        dots[row] = fma(codes[5], high.y, dots[row]);
        dots[row] = fma(codes[6], high.z, dots[row]);
        dots[row] = fma(codes[7], high.w, dots[row]);
      }
    }
    APIQ_UNROLL
    for (uint32_t row = 0; row < max_rows; row++) {
      const float sum = sums.load(row * stage_chunks + warp * chunks_per_tile + chunk);
      totals[row] = fma(tile.offset[chunk], sum, fma(tile.scale[chunk], dots[row], totals[row]));
    }
  }
}

// Grid: (row tiles, stretches).
template <uint32_t bits, uint32_t max_rows>
APIQ_KERNEL(gemv_threads) gemv_kernel(GemvArgs a) {
  APIQ_SHARED(float, x, max_rows * stage_columns);
  APIQ_SHARED(float, sums, max_rows * stage_chunks);
  APIQ_SHARED(float, warp_totals, gemv_warps * max_rows * tile_rows);
  const AffineLayout& layout = a.weight.layout;
  const uint32_t warp = thread_index() / warp_threads;
  const uint32_t lane = thread_index() % warp_threads;
  float totals[max_rows] = {};

  for (uint32_t i = 0; i < a.stages_per_stretch; i++) {
    const uint32_t stage = block_index_y() * a.stages_per_stretch + i;
    const uint32_t column_tile = stage * gemv_warps + warp;
    const bool works = column_tile < layout.column_tiles;
    LaneTile<bits> tile;
    if (works) tile.load(a.weight, uint64_t{block_index_x()} * layout.column_tiles + column_tile, lane);
    if (i != 0) sync_block();  // the stage before is still being read
    load_stage<max_rows>(a, stage * stage_columns, x, sums);
    sync_block();
    if (works) multiply_tile<bits, max_rows>(tile, warp, x, sums, totals);
  }

  APIQ_UNROLL
  for (uint32_t row = 0; row < max_rows; row++) warp_totals.store((row * gemv_warps + warp) * tile_rows + lane, totals[row]);
  sync_block();
  const uint32_t row = warp;
  const uint32_t output = block_index_x() * tile_rows + lane;
  if (row >= a.rows || output >= layout.out_features) return;
  float total = 0.0f;
  for (uint32_t w = 0; w < gemv_warps; w++) total += warp_totals.load((row * gemv_warps + w) * tile_rows + lane);
  if (a.partials.present()) {
    a.partials.store((uint64_t{block_index_y()} * a.rows + row) * layout.out_features + output, total);
  } else {
    a.y.store(uint64_t{row} * layout.out_features + output, a.bias.present() ? total + a.bias.load(output) : total);
  }
}

struct GatherArgs {
  Global<const float> partials;  // [stretches, rows, out]
  Global<const float> bias;      // [out] or absent
  Global<float> y;               // [rows, out]
  uint32_t rows;
  uint32_t out_features;
  uint32_t stretches;
};

constexpr uint32_t gather_threads = 128;

// y = the stretches' sums in order, plus the bias. Grid: (blocks of 128 outputs, rows).
APIQ_KERNEL(gather_threads) gather_stretches_kernel(GatherArgs a) {
  const uint32_t output = block_index_x() * gather_threads + thread_index();
  if (output >= a.out_features) return;
  const uint32_t row = block_index_y();
  float total = 0.0f;
  for (uint32_t stretch = 0; stretch < a.stretches; stretch++) {
    total += a.partials.load((uint64_t{stretch} * a.rows + row) * a.out_features + output);
  }
  a.y.store(uint64_t{row} * a.out_features + output, a.bias.present() ? total + a.bias.load(output) : total);
}

}  // namespace apiq::cuda
