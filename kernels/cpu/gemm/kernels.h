// The kernels of dense matrix products and of attention over whole sequences, for one instruction set. All sets compute the
// same bits: an element of a product is one chain of fused multiply-adds over k, whichever registers hold it.
#pragma once

#include <cstdint>

#include "../core/isa.h"

namespace apiq::cpu {

// A packed block times a packed block: c = alpha a b + beta c. Panels and their order in memory are drawn in ops/gemm.cpp.
struct GemmBlock {
  const float* a;  // panels of tile_rows rows: [panels, words, tile_rows]
  const float* b;  // panels of tile_cols columns: [panels, words, tile_cols]
  uint32_t words;
  uint32_t rows;
  uint32_t cols;
  float* c;  // [rows, cols], rows ldc elements apart
  uint64_t ldc;
  float alpha;
  float beta;  // 0: c is not read
};

// Lines of k elements each, interleaved `width` at a time, a panel behind the other. An element takes one word of 32 bits, or half
// of one, and a line takes `words` of them:
//   float32     word p = source[i * line_stride + p * k_stride], at packed[(i / width * words + p) * width + i % width]
//   bf16        word p / 2 = elements p (the low half) and p + 1, as VDPBF16PS reads them
//   bf16 as float32, where that instruction is missing: word p = element p + 1, word p + 1 = element p (p even), in its order
// and 0 for lines missing in the last panel and, with an odd k, for the last pair's missing element.
struct PanelSource {
  const float* source;
  uint64_t line_stride;  // one of the two strides is 1
  uint64_t k_stride;
  uint32_t lines;
  uint32_t k;
  uint32_t words;
};

constexpr uint32_t attention_tile = 64;
// How many key tiles an item of the backward pass takes, so that it loads its queries once for all.
constexpr uint32_t attention_key_tiles = 2;

// A tile of queries of one sequence and the query heads that share a key/value head.
struct CausalTile {
  const float* q;  // first row, first head of the group
  const float* k;  // position 0 of the sequence, the group's key head
  const float* v;
  uint64_t q_stride;   // elements from a row of q (y, dy, dq) to the next
  uint64_t kv_stride;  // elements from a row of k (v, dk, dv) to the next
  uint32_t head_dim;   // a multiple of 8
  uint32_t group;      // query heads
  uint32_t seq_len;
  uint32_t first_row;  // position, a multiple of 64
  uint32_t rows;       // <= 64
  const uint32_t* begin;  // [rows] first position that a row sees, at most its own
  uint32_t first_seen;    // the lowest of them
  float scale;
  float* scratch;
};

struct CausalForward {
  CausalTile tile;
  float* y;    // as tile.q
  float* lse;  // first row, first head of the group
  uint64_t lse_stride;
};

// The tile's queries against the key tiles from first_key <= first_row on, as far as they see them. What it finds is added to
// dk, dv and dq, or replaces what is there: dk and dv of the key tile on the diagonal, dq when that one is among the tiles.
struct CausalBackward {
  CausalTile tile;
  uint32_t first_key;
  uint32_t key_tiles;
  const float* y;  // as tile.q
  const float* dy;
  const float* lse;
  uint64_t lse_stride;
  float* dq;
  float* dk;  // as tile.k
  float* dv;
};

constexpr uint64_t attention_row_floats(uint64_t head_dim) { return (head_dim + 15) / 16 * 16; }

constexpr uint64_t causal_forward_floats(uint64_t head_dim, uint64_t group) {
  return attention_tile * ((2 + 2 * group) * attention_row_floats(head_dim) + attention_tile + 2 * group);
}

constexpr uint64_t causal_backward_floats(uint64_t head_dim) {
  return attention_tile * ((3 + 5 * attention_key_tiles) * attention_row_floats(head_dim) + 2 * attention_tile + 1);
}

// Products in one way to compute (APIQ_COMPUTE_*).
struct PanelKernels {
  uint32_t tile_rows;
  uint32_t tile_cols;
  uint32_t terms;        // of k that are packed together ..
  uint32_t terms_words;  // .. into so many words of a line
  void (*pack_rows)(const PanelSource& source, float* packed);  // width tile_rows
  void (*pack_cols)(const PanelSource& source, float* packed);  // width tile_cols
  void (*multiply)(const GemmBlock& block);

  uint32_t words(uint32_t k) const { return (k / terms + (k % terms != 0)) * terms_words; }
};

struct GemmKernels {
  PanelKernels f32;
  PanelKernels bf16;
  void (*causal_forward)(const CausalForward& item);
  void (*causal_backward)(const CausalBackward& item);
};

const GemmKernels& gemm_kernels(Isa isa);
// compute: APIQ_COMPUTE_*
const PanelKernels& panel_kernels(Isa isa, uint32_t compute);

namespace scalar { extern const GemmKernels gemm_kernels; }
namespace avx2 { extern const GemmKernels gemm_kernels; }
namespace avx512 { extern const GemmKernels gemm_kernels; }
namespace avx512bf16 { extern const PanelKernels bf16_kernels; }

}  // namespace apiq::cpu
