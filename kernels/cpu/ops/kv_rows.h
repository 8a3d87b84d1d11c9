// Where a row of a batch lies in the paged cache: the checks that kv_store and attention share.
#pragma once

#include "../../common/plans/kv.h"
#include "report.h"

namespace apiq::cpu {

// The block table of the row's sequence. Null for a padding row, and, after reporting it, for a row that names a sequence or
// a position that does not exist.
inline const int32_t* row_blocks(const KvPlan& kv, uint64_t row, Worker& worker) {
  const int32_t sequence = kv.row_seq[row];
  if (sequence < 0) return nullptr;
  if (static_cast<uint32_t>(sequence) >= kv.n_seqs) {
    report(worker, APIQ_OUT_OF_RANGE, "Cannot place row %" PRIu64 ": received sequence %d, expected less than %u", row, sequence, kv.n_seqs);
    return nullptr;
  }
  const int32_t position = kv.row_pos[row];
  if (position < 0 || static_cast<uint32_t>(position) / KvPlan::block_size >= kv.max_blocks) {
    report(worker, APIQ_OUT_OF_RANGE, "Cannot place row %" PRIu64 ": received position %d, expected 0 to %" PRIu64, row, position,
           uint64_t{kv.max_blocks} * KvPlan::block_size - 1);
    return nullptr;
  }
  return kv.block_tables + static_cast<uint64_t>(sequence) * kv.max_blocks;
}

// Whether entries [first, end) of the row's block table name blocks of the cache; reports the first that does not.
inline bool blocks_exist(const KvPlan& kv, const int32_t* blocks, uint32_t first, uint32_t end, uint64_t row, Worker& worker) {
  for (uint32_t i = first; i < end; i++) {
    if (blocks[i] < 0 || static_cast<uint32_t>(blocks[i]) >= kv.n_blocks) {
      report(worker, APIQ_OUT_OF_RANGE, "Cannot place row %" PRIu64 ": received block %d for positions from %u on, expected 0 to %u", row,
             blocks[i], i * KvPlan::block_size, kv.n_blocks - 1);
      return false;
    }
  }
  return true;
}

// Bytes from the cache's start to a block's part of one key/value head.
inline uint64_t head_offset(const KvPlan& kv, uint64_t block, uint64_t head) {
  const uint64_t element = kv.dtype == APIQ_F32 ? sizeof(float) : sizeof(uint16_t);
  return (block * kv.n_kv_heads + head) * kv.head_dim * KvPlan::block_size * element;
}

}  // namespace apiq::cpu
