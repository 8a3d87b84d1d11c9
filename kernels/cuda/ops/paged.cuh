// Where a row of a batch lies in the paged cache: what kv_store and attention share.
#pragma once

#include "../../common/plans/kv.h"
#include "../device_faults.h"
#include "../elements.cuh"

namespace apiq::cuda {

constexpr uint32_t no_row = 0xffffffffu;

template <class Stored>
struct PagedCache {
  Global<Stored> k;  // [n_blocks, n_kv_heads, head_dim, block_size]
  Global<Stored> v;  // [n_blocks, n_kv_heads, block_size, head_dim]
  Global<const int32_t> block_tables;
  Global<const int32_t> row_seq;
  Global<const int32_t> row_pos;
  Global<uint32_t> fault;
  uint32_t n_blocks;
  uint32_t n_kv_heads;
  uint32_t head_dim;
  uint32_t n_seqs;
  uint32_t max_blocks;

  // The row's position, or no_row: for padding, and, after reporting it, for a row that names what does not exist.
  APIQ_DEVICE uint32_t position(uint32_t row) const {
    const int32_t sequence = row_seq.load(row);
    if (sequence < 0) return no_row;
    if (static_cast<uint32_t>(sequence) >= n_seqs) {
      fault.store(0, kv_sequence_out_of_range);
      return no_row;
    }
    const int32_t position = row_pos.load(row);
    if (position < 0 || static_cast<uint32_t>(position) / KvPlan::block_size >= max_blocks) {
      fault.store(0, kv_position_out_of_range);
      return no_row;
    }
    return static_cast<uint32_t>(position);
  }
  // The cache block of the row's positions 16 * index .., or -1 after reporting that there is no such block. The row has a position.
  APIQ_DEVICE int32_t block(uint32_t row, uint32_t index) const {
    const int32_t found = block_tables.load(static_cast<uint64_t>(row_seq.load(row)) * max_blocks + index);
    if (found >= 0 && static_cast<uint32_t>(found) < n_blocks) return found;
    fault.store(0, kv_block_out_of_range);
    return -1;
  }
  // First element of one key/value head in a block, of k and of v alike.
  APIQ_DEVICE uint64_t head(int32_t block, uint32_t kv_head) const {
    return (static_cast<uint64_t>(block) * n_kv_heads + kv_head) * head_dim * KvPlan::block_size;
  }
};

template <class Stored>
PagedCache<Stored> paged_cache(const KvPlan& plan, uint32_t* fault_word) {
  const uint64_t elements = plan.cache_bytes / sizeof(Stored);
  return {{reinterpret_cast<Stored*>(plan.k), elements},
          {reinterpret_cast<Stored*>(plan.v), elements},
          {plan.block_tables, uint64_t{plan.n_seqs} * plan.max_blocks},
          {plan.row_seq, plan.rows},
          {plan.row_pos, plan.rows},
          {fault_word, 1},
          plan.n_blocks,
          plan.n_kv_heads,
          plan.head_dim,
          plan.n_seqs,
          plan.max_blocks};
}

}  // namespace apiq::cuda
