// One tile of queries against a pair of key tiles: their part of dq, dk and dv.
#pragma once

#include "attention_tile.h"

namespace apiq::cpu::APIQ_ISA {
namespace {

// delta = dy . y of one row: what the softmax' normaliser takes from every dp.
float row_delta(const float* dy, const float* y, uint32_t head_dim) {
  Vec16 products = zero();
  for (uint32_t d = 0; d < head_dim; d += vec_lanes) {
    const uint32_t n = head_dim - d < vec_lanes ? head_dim - d : vec_lanes;
    products = fma(load_n(dy + d, n), load_n(y + d, n), products);
  }
  return sum(products);
}

// One row: scores become probabilities, and dp = dy V^T becomes ds = p (dp - delta).
template <bool whole>
void softmax_row_backward(float* scores, float* dp, Seen range, float lse, float delta) {
#pragma GCC unroll 4
  for (uint32_t v = 0; v < tile_vecs; v++) {
    const uint32_t at = v * vec_lanes;
    const Vec16 p = where_seen<whole>(range, at, exp(sub(load(scores + at), broadcast(lse))), zero());
    store(scores + at, p);
    store(dp + at, where_seen<whole>(range, at, mul(p, sub(load(dp + at), broadcast(delta))), zero()));
  }
}

// What one key tile of an item has in scratch: its factors, and the sums of its gradients over the group's heads.
struct KeyTile {
  static constexpr uint32_t tensors = 5;
  uint32_t first_key;
  uint32_t keys;
  bool diagonal;
  float* k_transposed;
  float* v_transposed;
  float* scaled_keys;
  float* dk;
  float* dv;

  void fill(const CausalTile& tile, uint32_t first, float* scratch) {
    const uint64_t tile_floats = uint64_t{T} * padded(tile.head_dim);
    first_key = first;
    keys = keys_of_tile(tile, first);
    diagonal = first == tile.first_row;
    k_transposed = scratch;
    v_transposed = k_transposed + tile_floats;
    scaled_keys = v_transposed + tile_floats;
    dk = scaled_keys + tile_floats;
    dv = dk + tile_floats;
    const uint64_t offset = first_key * tile.kv_stride;
    transpose_tile(tile.k + offset, tile.kv_stride, keys, tile.head_dim, k_transposed);
    transpose_tile(tile.v + offset, tile.kv_stride, keys, tile.head_dim, v_transposed);
    copy_tile(tile.k + offset, tile.kv_stride, keys, tile.head_dim, tile.scale, scaled_keys);
    clear(dk, tile_floats);
    clear(dv, tile_floats);
  }
};

// One head of the queries, in scratch.
struct QueryHead {
  float* queries;  // scaled
  float* dy;
  float* dq;
  float* scores;
  float* ds;
  float* delta;
  uint64_t offset;  // of the head in a row
};

// Row i of the head at `offset`, of all that is read for it.
void prefetch_head(const CausalBackward& item, uint64_t offset, uint32_t i) {
  const uint64_t row = i * item.tile.q_stride + offset;
  const float* const dq = item.dq;
  for (const float* tensor : {item.tile.q, item.dy, item.y, dq}) prefetch_row(tensor + row, item.tile.head_dim);
}

void head_against_keys(const CausalBackward& item, uint32_t head, const QueryHead& of, const KeyTile& key_tile, bool first) {
  const CausalTile& tile = item.tile;
  const uint32_t width = padded(tile.head_dim);
  const uint32_t vectors = width / vec_lanes;
  const bool prefetch_next = first && head + 1 < tile.group;
  score_tile(tile, of.queries, key_tile.k_transposed, key_tile.keys, key_tile.diagonal, of.scores);
  score_tile(tile, of.dy, key_tile.v_transposed, key_tile.keys, key_tile.diagonal, of.ds);
  for (uint32_t i = 0; i < T; i++) {
    const Seen range = i < tile.rows ? seen(tile, i, key_tile.first_key) : Seen{0, 0};
    if (prefetch_next && i < tile.rows) prefetch_head(item, of.offset + tile.head_dim, i);
    const uint64_t lse = i * item.lse_stride + head;
    if (range.begin == 0 && range.end == T) {
      softmax_row_backward<true>(of.scores + i * T, of.ds + i * T, range, item.lse[lse], of.delta[i]);
    } else if (range.begin < range.end) {
      softmax_row_backward<false>(of.scores + i * T, of.ds + i * T, range, item.lse[lse], of.delta[i]);
    } else {
      clear(of.scores + i * T, T);
      clear(of.ds + i * T, T);
    }
  }
  const Part from_row = key_tile.diagonal ? Part::terms_from_row : Part::all;
  const Part to_row = key_tile.diagonal ? Part::terms_to_row : Part::all;
  multiply_tile<true>({of.scores, 1, T, of.dy, width, key_tile.dv, width, key_tile.keys, tile.rows, vectors}, from_row);
  multiply_tile<true>({of.ds, 1, T, of.queries, width, key_tile.dk, width, key_tile.keys, tile.rows, vectors}, from_row);
  const Product dq{of.ds, T, 1, key_tile.scaled_keys, width, of.dq, width, tile.rows, key_tile.keys, vectors};
  if (first) {
    multiply_tile<false>(dq, to_row);
  } else {
    multiply_tile<true>(dq, to_row);
  }
}

void causal_backward(const CausalBackward& item) {
  const CausalTile& tile = item.tile;
  const uint64_t tile_floats = uint64_t{T} * padded(tile.head_dim);
  QueryHead of{};
  of.queries = tile.scratch;
  of.dy = of.queries + tile_floats;
  of.dq = of.dy + tile_floats;
  of.scores = of.dq + tile_floats;
  of.ds = of.scores + T * T;
  of.delta = of.ds + T * T;
  float* const key_scratch = of.delta + T;
  const bool has_diagonal = item.first_key + item.key_tiles * T > tile.first_row;
  const uint32_t skipped = tile.first_seen > item.first_key ? (tile.first_seen - item.first_key) / T : 0;
  const uint32_t key_tiles = has_diagonal ? (tile.first_row - item.first_key) / T + 1 : item.key_tiles;
  if (skipped >= key_tiles) return;
  const uint32_t count = key_tiles - skipped;
  KeyTile key_tile[attention_key_tiles];
  for (uint32_t b = 0; b < count; b++) {
    key_tile[b].fill(tile, item.first_key + (skipped + b) * T, key_scratch + b * KeyTile::tensors * tile_floats);
  }
  for (uint32_t head = 0; head < tile.group; head++) {
    of.offset = uint64_t{head} * tile.head_dim;
    copy_tile(tile.q + of.offset, tile.q_stride, tile.rows, tile.head_dim, tile.scale, of.queries);
    copy_tile(item.dy + of.offset, tile.q_stride, tile.rows, tile.head_dim, 1, of.dy);
    for (uint32_t i = 0; i < tile.rows; i++) {
      const uint64_t row = i * tile.q_stride + of.offset;
      of.delta[i] = row_delta(item.dy + row, item.y + row, tile.head_dim);
    }
    for (uint32_t b = 0; b < count; b++) head_against_keys(item, head, of, key_tile[b], b == 0);
    add_tile(of.dq, tile.rows, tile.head_dim, !has_diagonal, item.dq + of.offset, tile.q_stride);
  }
  for (uint32_t b = 0; b < count; b++) {
    const KeyTile& keys = key_tile[b];
    const uint64_t offset = keys.first_key * tile.kv_stride;
    add_tile(keys.dk, keys.keys, tile.head_dim, !keys.diagonal, item.dk + offset, tile.kv_stride);
    add_tile(keys.dv, keys.keys, tile.head_dim, !keys.diagonal, item.dv + offset, tile.kv_stride);
  }
}

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
