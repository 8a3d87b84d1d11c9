// One tile of queries against all the keys it sees.
#pragma once

#include "attention_tile.h"

namespace apiq::cpu::APIQ_ISA {
namespace {

// The online softmax of one row: scores become probabilities relative to the row's new maximum, sums so far are rescaled.
template <bool whole>
void softmax_row(float* scores, Seen range, float* maximum_so_far, float* total, float* sums, uint32_t width) {
  const Vec16 nothing = broadcast(-__builtin_inff());
  Vec16 score[tile_vecs];
  Vec16 most = broadcast(*maximum_so_far);
#pragma GCC unroll 4
  for (uint32_t v = 0; v < tile_vecs; v++) {
    score[v] = where_seen<whole>(range, v * vec_lanes, load(scores + v * vec_lanes), nothing);
    most = max(most, score[v]);
  }
  const float new_maximum = maximum(most);
  Vec16 part = zero();
#pragma GCC unroll 4
  for (uint32_t v = 0; v < tile_vecs; v++) {
    const Vec16 probability = exp(sub(score[v], broadcast(new_maximum)));
    store(scores + v * vec_lanes, probability);
    part = add(part, probability);
  }
  if (new_maximum == *maximum_so_far) {
    *total += sum(part);
    return;
  }
  const Vec16 correction = exp(sub(broadcast(*maximum_so_far), broadcast(new_maximum)));
  for (uint32_t d = 0; d < width; d += vec_lanes) store(sums + d, mul(load(sums + d), correction));
  store_n(total, add(mul(broadcast(*total), correction), broadcast(sum(part))), 1);
  *maximum_so_far = new_maximum;
}

void causal_forward(const CausalForward& item) {
  const CausalTile& tile = item.tile;
  const uint32_t width = padded(tile.head_dim);
  const uint64_t tile_floats = uint64_t{T} * width;
  float* const k_transposed = tile.scratch;
  float* const values = k_transposed + tile_floats;
  float* const scores = values + tile_floats;
  float* const queries = scores + T * T;
  float* const sums = queries + tile.group * tile_floats;
  float* const maxima = sums + tile.group * tile_floats;
  float* const totals = maxima + tile.group * T;
  for (uint32_t head = 0; head < tile.group; head++) {
    copy_tile(tile.q + head * tile.head_dim, tile.q_stride, tile.rows, tile.head_dim, tile.scale, queries + head * tile_floats);
  }
  clear(sums, tile.group * tile_floats);
  for (uint32_t i = 0; i < tile.group * T; i++) maxima[i] = -__builtin_inff();
  clear(totals, tile.group * T);

  for (uint32_t first_key = tile.first_seen / T * T; first_key <= tile.first_row; first_key += T) {
    const bool diagonal = first_key == tile.first_row;
    const uint32_t keys = keys_of_tile(tile, first_key);
    transpose_tile(tile.k + first_key * tile.kv_stride, tile.kv_stride, keys, tile.head_dim, k_transposed);
    copy_tile(tile.v + first_key * tile.kv_stride, tile.kv_stride, keys, tile.head_dim, 1, values);
    for (uint32_t head = 0; head < tile.group; head++) {
      float* const head_sums = sums + head * tile_floats;
      score_tile(tile, queries + head * tile_floats, k_transposed, keys, diagonal, scores);
      const bool prefetch_next = head == 0 && !diagonal;
      for (uint32_t i = 0; i < T; i++) {
        const Seen range = i < tile.rows ? seen(tile, i, first_key) : Seen{0, 0};
        if (prefetch_next && i < keys_of_tile(tile, first_key + T)) {
          prefetch_row(tile.k + (first_key + T + i) * tile.kv_stride, tile.head_dim);
          prefetch_row(tile.v + (first_key + T + i) * tile.kv_stride, tile.head_dim);
        }
        float* const maximum_so_far = &maxima[head * T + i];
        float* const total = &totals[head * T + i];
        if (range.begin == 0 && range.end == T) {
          softmax_row<true>(scores + i * T, range, maximum_so_far, total, head_sums + i * width, width);
        } else if (range.begin < range.end) {
          softmax_row<false>(scores + i * T, range, maximum_so_far, total, head_sums + i * width, width);
        } else {
          clear(scores + i * T, T);
        }
      }
      multiply_tile<true>({scores, T, 1, values, width, head_sums, width, tile.rows, keys, width / vec_lanes},
                          diagonal ? Part::terms_to_row : Part::all);
    }
  }
  for (uint32_t head = 0; head < tile.group; head++) {
    for (uint32_t i = 0; i < tile.rows; i++) {
      const float* const from = sums + head * tile_floats + i * width;
      float* const y = item.y + i * tile.q_stride + head * tile.head_dim;
      const Vec16 total = broadcast(totals[head * T + i]);
      for (uint32_t d = 0; d < tile.head_dim; d += vec_lanes) {
        store_n(y + d, div(load(from + d), total), tile.head_dim - d < vec_lanes ? tile.head_dim - d : vec_lanes);
      }
      const double log_total = __builtin_log(static_cast<double>(totals[head * T + i]));
      item.lse[i * item.lse_stride + head] = static_cast<float>(static_cast<double>(maxima[head * T + i]) + log_total);
    }
  }
}

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
