#include <algorithm>
#include <cstring>

#include "../core/context.h"
#include "../isa/float_kernels.h"
#include "kv_rows.h"

namespace apiq::cpu {
namespace {

// An item is one key/value head of a tile of rows. Rows of a tile that follow each other in one sequence (a prefill chunk) are
// computed together and share the loads of keys and values, as the query heads of a group always do. Few rows are decode rows
// of different sequences: they get tiles of their own, so that all threads have work.
class Attention final : public Op {
 public:
  Attention(const AttentionPlan& plan, Isa isa)
      : plan_(plan),
        kernel_(float_kernels(isa).attention[plan.kv.dtype]),
        group_(plan.n_heads / plan.kv.n_kv_heads),
        tile_(plan.kv.rows <= max_single_rows ? 1 : std::max(1u, queries_per_tile / group_)) {}

  uint64_t items(uint32_t) const override { return uint64_t{plan_.kv.n_kv_heads} * ((plan_.kv.rows + tile_ - 1) / tile_); }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker& worker) override {
    for (uint64_t item = begin; item < end; item++) {
      const uint32_t head = static_cast<uint32_t>(item % plan_.kv.n_kv_heads);
      const uint64_t first = item / plan_.kv.n_kv_heads * tile_;
      const uint64_t last = std::min<uint64_t>(first + tile_, plan_.kv.rows);
      for (uint64_t row = first; row < last;) row = run_sequence(row, last, head, worker);
    }
  }

 private:
  static constexpr uint32_t max_single_rows = 16;
  static constexpr uint32_t queries_per_tile = 32;

  // Rows from `row` on that belong to one sequence and whose positions join up; returns the row after them. The kernel reads every
  // block between the first and the last position of its queries, so no unchecked gap may lie between them.
  uint64_t run_sequence(uint64_t row, uint64_t last, uint32_t head, Worker& worker) {
    const KvPlan& kv = plan_.kv;
    const uint64_t capacity = (last - row) * group_;
    const uint64_t query_bytes = (capacity * sizeof(AttentionQuery) + 63) / 64 * 64;
    std::byte* scratch = worker.scratch(query_bytes + attention_scratch_floats(capacity, kv.head_dim) * sizeof(float));
    AttentionQuery* queries = reinterpret_cast<AttentionQuery*>(scratch);
    uint32_t n_queries = 0;

    const int32_t sequence = kv.row_seq[row];
    const int32_t* blocks = nullptr;
    uint32_t joint_begin = 0;
    uint32_t joint_end = 0;
    for (; row < last && kv.row_seq[row] == sequence; row++) {
      const uint64_t first_head = row * plan_.n_heads + uint64_t{head} * group_;
      float* y = plan_.y + first_head * kv.head_dim;
      const int32_t* row_table = row_blocks(kv, row, worker);
      uint32_t begin = 0;
      uint32_t end = 0;
      if (row_table != nullptr) {
        end = static_cast<uint32_t>(kv.row_pos[row]) + 1;
        begin = plan_.window != 0 && end > plan_.window ? end - plan_.window : 0;
      }
      if (row_table == nullptr || !blocks_exist(kv, row_table, begin / KvPlan::block_size, (end - 1) / KvPlan::block_size + 1, row, worker)) {
        std::memset(y, 0, uint64_t{group_} * kv.head_dim * sizeof(float));
        continue;
      }
      if (n_queries != 0 && (begin > joint_end || end < joint_begin)) break;
      joint_begin = n_queries != 0 ? std::min(joint_begin, begin) : begin;
      joint_end = n_queries != 0 ? std::max(joint_end, end) : end;
      blocks = row_table;
      for (uint32_t i = 0; i < group_; i++) {
        const uint64_t offset = (first_head + i) * kv.head_dim;
        queries[n_queries++] = {plan_.q + offset, plan_.y + offset, begin, end};
      }
    }
    if (n_queries != 0) {
      kernel_({.k = kv.k + head_offset(kv, 0, head),
               .v = kv.v + head_offset(kv, 0, head),
               .blocks = blocks,
               .block_stride = uint64_t{kv.n_kv_heads} * kv.head_dim * KvPlan::block_size,
               .head_dim = kv.head_dim,
               .scale = plan_.scale,
               .queries = queries,
               .n_queries = n_queries,
               .scratch = reinterpret_cast<float*>(scratch + query_bytes)});
    }
    return row;
  }

  const AttentionPlan plan_;
  void (*const kernel_)(const AttentionTask&);
  const uint32_t group_;  // query heads of a key/value head
  const uint32_t tile_;   // rows of an item
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_attention(uint64_t context, const apiq_attention_args* args) {
  return apiq::cpu::submit<apiq::cpu::Attention>(context, args);
}
