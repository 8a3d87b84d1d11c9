// Attention of whole sequences in tiles of 64 queries by 64 keys, forward (FlashAttention-2, arXiv 2307.08691) and backward.
//
//             keys   0..63   64..127   128..191         S = scale Q K^T     the tile of scores, 16 KiB, never leaves the cache
//   queries 0..63    \ . .                              P = exp(S - lse)    0 where a row does not see the key
//        64..127     # \ .     \ diagonal: half is      y += P V
//       128..191     # # \       skipped row by row     dV += P^T dY    dS = P * (dY V^T - delta)    dK += dS^T Q    dQ += dS K
//
// Tiles above the diagonal, or before all that a window or row_start lets a row see, are never computed. A tile's factors are
// copied once into dense scratch (K and V also transposed) and serve all query heads of the group, so a copied element is
// worth 2 x 64 x group operations or more. A product is 4 rows by 4 vectors in registers, 64 or head_dim terms deep; each
// element of it is one chain in an order that depends on positions alone.
//
// A key that a row does not see gets probability 0, but it is multiplied in where its tile is: the tensors must be finite.
#pragma once

#include "kernels.h"
#include "micro.h"
#include "pack.h"

namespace apiq::cpu::APIQ_ISA {
namespace {

constexpr uint32_t T = attention_tile;
constexpr uint32_t tile_vecs = T / vec_lanes;
constexpr uint32_t product_rows = 4;
constexpr uint32_t product_vectors = accumulators / product_rows;

// What part of a tile on the diagonal is not zero, or matters.
enum class Part {
  all,
  columns_to_row,  // columns up to the row's own: scores
  terms_to_row,    // terms up to the row's own: P V, dS K
  terms_from_row,  // terms from the row's own on: P^T dY, dS^T Q
};

// c (+)= a b, with a [rows, terms] and b [terms, 16 vectors].
struct Product {
  const float* a;
  uint64_t a_row;
  uint64_t a_term;
  const float* b;
  uint64_t b_stride;
  float* c;
  uint64_t c_stride;
  uint32_t rows;
  uint32_t terms;
  uint32_t vectors;
};

template <bool accumulate, uint32_t V>
void product_strip(const Product& of, uint32_t row, uint32_t vector, uint32_t first_term, uint32_t terms) {
  Vec16 sums[product_rows][V];
  products<product_rows, V>(terms, of.a + row * of.a_row + first_term * of.a_term, of.a_row, of.a_term,
                            of.b + first_term * of.b_stride + vector * vec_lanes, of.b_stride, sums);
#pragma GCC unroll 4
  for (uint32_t i = 0; i < product_rows; i++) {
#pragma GCC unroll 4
    for (uint32_t v = 0; v < V; v++) {
      float* const to = of.c + (row + i) * of.c_stride + (vector + v) * vec_lanes;
      store(to, accumulate ? add(load(to), sums[i][v]) : sums[i][v]);
    }
  }
}

template <bool accumulate, uint32_t V>
void product_columns(const Product& of, uint32_t row, uint32_t vector, uint32_t vectors, uint32_t first_term, uint32_t terms) {
  for (; vector + V <= vectors; vector += V) product_strip<accumulate, V>(of, row, vector, first_term, terms);
  if constexpr (V > 1) {
    if (vector < vectors) product_columns<accumulate, V / 2>(of, row, vector, vectors, first_term, terms);
  }
}

// Rows are computed in fours: scratch always has room for 64 of them.
template <bool accumulate>
void multiply_tile(const Product& of, Part part) {
  for (uint32_t row = 0; row < of.rows; row += product_rows) {
    const uint32_t row_end = row + product_rows;
    uint32_t vectors = of.vectors, first_term = 0, last_term = of.terms;
    const uint32_t vectors_to_row = (row_end + vec_lanes - 1) / vec_lanes;
    if (part == Part::columns_to_row && vectors_to_row < vectors) vectors = vectors_to_row;
    if (part == Part::terms_to_row && row_end < last_term) last_term = row_end;
    if (part == Part::terms_from_row) first_term = row;
    const uint32_t terms = last_term > first_term ? last_term - first_term : 0;
    product_columns<accumulate, product_vectors>(of, row, 0, vectors, first_term, terms);
  }
}

// Scratch rows of head_dim floats are filled up with zeros to whole vectors, tiles to 64 rows.
constexpr uint32_t padded(uint32_t head_dim) { return (head_dim + vec_lanes - 1) / vec_lanes * vec_lanes; }

// to[i] = factor * from[i]
void copy_tile(const float* from, uint64_t stride, uint32_t rows, uint32_t head_dim, float factor, float* to) {
  const uint32_t width = padded(head_dim);
  for (uint32_t i = 0; i < T; i++, to += width) {
    for (uint32_t d = 0; d < width; d += vec_lanes) {
      const uint32_t n = head_dim - d < vec_lanes ? head_dim - d : vec_lanes;
      store(to + d, i < rows ? mul(broadcast(factor), load_n(from + i * stride + d, n)) : zero());
    }
  }
}

// to[d * 64 + i] = from[i, d]
void transpose_tile(const float* from, uint64_t stride, uint32_t rows, uint32_t head_dim, float* to) {
  pack<T>({from, stride, 1, rows, head_dim, head_dim}, to);
}

// to[i] (+)= from[i]
void add_tile(const float* from, uint32_t rows, uint32_t head_dim, bool accumulate, float* to, uint64_t stride) {
  const uint32_t width = padded(head_dim);
  for (uint32_t i = 0; i < rows; i++) {
    for (uint32_t d = 0; d < width; d += vec_lanes) {
      const uint32_t n = head_dim - d < vec_lanes ? head_dim - d : vec_lanes;
      float* const at = to + i * stride + d;
      const Vec16 sum = load(from + i * width + d);
      store_n(at, accumulate ? add(load_n(at, n), sum) : sum, n);
    }
  }
}

void clear(float* values, uint64_t count) {
  for (uint64_t i = 0; i < count; i += vec_lanes) store(values + i, zero());
}

// Rows of a head lie too far apart for the processor to see a pattern: it is told while it computes something else.
[[gnu::always_inline]] inline void prefetch_row(const float* row, uint32_t head_dim) {
  for (uint32_t d = 0; d < head_dim; d += 16) __builtin_prefetch(row + d);
}

// The keys of the tile at `first_key` that row i of the item sees: [begin, end) of 0 .. 64.
struct Seen {
  uint32_t begin;
  uint32_t end;
};

inline Seen seen(const CausalTile& tile, uint32_t i, uint32_t first_key) {
  const uint32_t begin = tile.begin[i] > first_key ? tile.begin[i] - first_key : 0;
  const uint32_t last = tile.first_row + i + 1 - first_key;
  return {begin < T ? begin : T, last < T ? last : T};
}

// Bits of lanes p .. p + 15 that lie in the range.
inline uint32_t seen_lanes(Seen range, uint32_t p) {
  const uint32_t before = range.begin <= p ? 0 : range.begin - p;
  const uint32_t after = range.end <= p ? 0 : range.end - p;
  return (after < vec_lanes ? (1u << after) - 1 : 0xffffu) & ~(before < vec_lanes ? (1u << before) - 1 : 0xffffu);
}

// v where the lane is seen, else `nothing`; most rows see the whole tile, and need no masks.
template <bool whole>
[[gnu::always_inline]] inline Vec16 where_seen(Seen range, uint32_t p, Vec16 v, Vec16 nothing) {
  return whole ? v : select(seen_lanes(range, p), v, nothing);
}

uint32_t keys_of_tile(const CausalTile& tile, uint32_t first_key) {
  return tile.seq_len - first_key < T ? tile.seq_len - first_key : T;
}

// S = Q K^T of one head, for the keys of the tile.
void score_tile(const CausalTile& tile, const float* q, const float* k_transposed, uint32_t keys, bool diagonal, float* scores) {
  const uint32_t vectors = (keys + vec_lanes - 1) / vec_lanes;
  multiply_tile<false>({q, padded(tile.head_dim), 1, k_transposed, T, scores, T, tile.rows, tile.head_dim, vectors},
                       diagonal ? Part::columns_to_row : Part::all);
}

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
