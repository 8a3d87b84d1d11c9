// Plans of kv_store and attention, and the addressing of a paged cache that both share.
#pragma once

#include "checks.h"

namespace apiq {

// One layer's cache and where the rows of this call lie in it; see apiq_kv_layout. `rows` sequences, positions and block ids
// are data: kernels check them when they run.
struct KvPlan {
  std::byte* k;  // [n_blocks, n_kv_heads, head_dim, block_size] of dtype
  std::byte* v;  // [n_blocks, n_kv_heads, block_size, head_dim] of dtype
  const int32_t* block_tables;  // [n_seqs, max_blocks]
  const int32_t* row_seq;       // [rows]
  const int32_t* row_pos;       // [rows]
  uint32_t dtype;
  uint32_t n_blocks;
  uint32_t n_kv_heads;
  uint32_t head_dim;
  uint32_t n_seqs;
  uint32_t max_blocks;
  uint32_t rows;
  uint64_t cache_bytes;  // of k, and of v

  static constexpr uint32_t block_size = 16;
  static constexpr uint32_t max_head_dim = 256;
};

KvPlan plan_kv(ContextBase& context, const apiq_kv_layout& kv, bool write);

struct KvStorePlan {
  KvPlan kv;
  const float* keys;    // [rows, n_kv_heads, head_dim]
  const float* values;  // [rows, n_kv_heads, head_dim]
};

KvStorePlan plan(ContextBase& context, const apiq_kv_store_args& args);

struct AttentionPlan {
  KvPlan kv;
  const float* q;  // [rows, n_heads, head_dim]
  float* y;        // [rows, n_heads, head_dim]
  uint32_t n_heads;
  uint32_t window;  // 0: none
  float scale;
};

AttentionPlan plan(ContextBase& context, const apiq_attention_args& args);

}  // namespace apiq
