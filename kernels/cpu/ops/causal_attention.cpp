// apiq_causal_attention and its backward pass.
#include "../../common/plans/causal_attention.h"

#include <algorithm>

#include "../core/context.h"
#include "../gemm/kernels.h"
#include "report.h"

namespace apiq::cpu {
namespace {

// A shape cut into items of 64 queries of one sequence and one key/value head.
class CausalTiles {
 public:
  explicit CausalTiles(const CausalAttentionShape& shape)
      : shape_(shape),
        tiles_((shape.seq_len - 1) / attention_tile + 1),
        group_(shape.n_heads / shape.n_kv_heads),
        lanes_(uint64_t{shape.n_seqs} * shape.n_kv_heads) {}

  uint64_t tiles() const { return tiles_; }  // of a sequence
  uint64_t lanes() const { return lanes_; }  // independent rows of tiles: sequences times key/value heads
  uint32_t group() const { return group_; }

  // How many tiles before its own a window lets a tile see.
  uint64_t tiles_before() const {
    if (shape_.window == 0) return tiles_ - 1;
    return std::min(tiles_ - 1, (uint64_t{shape_.window} - 1 + attention_tile - 1) / attention_tile);
  }

  // Offsets of an item's first row, first head.
  struct Place {
    uint64_t row;   // of all sequences
    uint64_t head;  // element of lse
    uint64_t q;     // element of q, y, dy, dq
    uint64_t kv;    // element of k, v, dk, dv: position 0 of the sequence
  };

  Place place(uint64_t lane, uint64_t tile) const {
    const uint64_t kv_head = lane % shape_.n_kv_heads;
    const uint64_t sequence_row = lane / shape_.n_kv_heads * shape_.seq_len;
    const uint64_t row = sequence_row + tile * attention_tile;
    const uint64_t head = row * shape_.n_heads + kv_head * group_;
    return {row, head, head * shape_.head_dim, (sequence_row * shape_.n_kv_heads + kv_head) * shape_.head_dim};
  }

  // `begin` has room for 64 positions. A row_start outside the sequence so far is reported, and read as the nearest that is inside.
  CausalTile tile(const Place& place, uint64_t index, uint32_t* begin, float* scratch, Worker& worker) const {
    const uint32_t first_row = static_cast<uint32_t>(index * attention_tile);
    const uint32_t rows = std::min(attention_tile, shape_.seq_len - first_row);
    uint32_t first_seen = first_row;
    for (uint32_t i = 0; i < rows; i++) {
      const uint32_t position = first_row + i;
      begin[i] = first_position(place.row + i, position, worker);
      first_seen = std::min(first_seen, begin[i]);
    }
    return {.q = shape_.q + place.q,
            .k = shape_.k + place.kv,
            .v = shape_.v + place.kv,
            .q_stride = uint64_t{shape_.n_heads} * shape_.head_dim,
            .kv_stride = uint64_t{shape_.n_kv_heads} * shape_.head_dim,
            .head_dim = shape_.head_dim,
            .group = group_,
            .seq_len = shape_.seq_len,
            .first_row = first_row,
            .rows = rows,
            .begin = begin,
            .first_seen = first_seen,
            .scale = shape_.scale,
            .scratch = scratch};
  }

 private:
  uint32_t first_position(uint64_t row, uint32_t position, Worker& worker) const {
    uint32_t first = shape_.window != 0 && position >= shape_.window ? position - shape_.window + 1 : 0;
    if (shape_.row_start == nullptr) return first;
    const int32_t start = shape_.row_start[row];
    if (start < 0 || static_cast<uint32_t>(start) > position) {
      report(worker, APIQ_OUT_OF_RANGE, "row_start: row %" PRIu64 " begins at position %d, expected 0 to %u", row, start, position);
    }
    return std::max(first, std::min(static_cast<uint32_t>(std::max(start, 0)), position));
  }

  const CausalAttentionShape shape_;
  const uint64_t tiles_;
  const uint32_t group_;
  const uint64_t lanes_;
};

// The last tiles have the most keys and come first: what ends late is short.
class CausalAttention final : public Op {
 public:
  CausalAttention(const CausalAttentionPlan& plan, Isa isa)
      : plan_(plan), tiles_(plan.shape), kernel_(gemm_kernels(isa).causal_forward) {}

  uint64_t items(uint32_t) const override { return tiles_.tiles() * tiles_.lanes(); }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker& worker) override {
    const uint64_t bytes = causal_forward_floats(plan_.shape.head_dim, tiles_.group()) * sizeof(float);
    float* const scratch = reinterpret_cast<float*>(worker.scratch(bytes));
    for (uint64_t item = begin; item < end; item++) {
      const uint64_t tile = tiles_.tiles() - 1 - item / tiles_.lanes();
      const CausalTiles::Place place = tiles_.place(item % tiles_.lanes(), tile);
      uint32_t positions[attention_tile];
      kernel_({.tile = tiles_.tile(place, tile, positions, scratch, worker),
               .y = plan_.y + place.q,
               .lse = plan_.lse + place.head,
               .lse_stride = plan_.shape.n_heads});
    }
  }

 private:
  const CausalAttentionPlan plan_;
  const CausalTiles tiles_;
  void (*const kernel_)(const CausalForward&);
};

// A query tile is taken against two key tiles at once, a pair. In a phase no two items share a query tile or a pair, so none add
// to the same gradients, and every sum runs in the order of the phases, whoever computes it:
//
//   key tiles       0  1 | 2  3 | 4  5
//   query tile 0    0    |      |          phase 2 d + s: query tiles 2 (p + d) + s against pairs p.
//              1    1  1 |      |          Phases 0 and 1 hold the diagonal and write what the others add to.
//              2    2  2 | 0    |
//              3    3  3 | 1  1 |
//              4    4  4 | 2  2 | 0
class CausalAttentionBackward final : public Op {
 public:
  CausalAttentionBackward(const CausalAttentionBackwardPlan& plan, Isa isa)
      : plan_(plan), tiles_(plan.shape), kernel_(gemm_kernels(isa).causal_backward) {}

  uint32_t phases() const override {
    const uint64_t pairs = (tiles_.tiles() + 1) / 2;
    return static_cast<uint32_t>(2 * std::min(pairs, (tiles_.tiles_before() + 1) / 2 + 1));
  }

  uint64_t items(uint32_t phase) const override {
    return tiles_.tiles() > phase ? ((tiles_.tiles() - 1 - phase) / 2 + 1) * tiles_.lanes() : 0;
  }

  void run(uint32_t phase, uint64_t begin, uint64_t end, Worker& worker) override {
    float* const scratch = reinterpret_cast<float*>(worker.scratch(causal_backward_floats(plan_.shape.head_dim) * sizeof(float)));
    for (uint64_t item = begin; item < end; item++) {
      const uint64_t key_tile = item / tiles_.lanes() * attention_key_tiles;
      const CausalTiles::Place place = tiles_.place(item % tiles_.lanes(), key_tile + phase);
      uint32_t positions[attention_tile];
      kernel_({.tile = tiles_.tile(place, key_tile + phase, positions, scratch, worker),
               .first_key = static_cast<uint32_t>(key_tile * attention_tile),
               .key_tiles = attention_key_tiles,
               .y = plan_.y + place.q,
               .dy = plan_.dy + place.q,
               .lse = plan_.lse + place.head,
               .lse_stride = plan_.shape.n_heads,
               .dq = plan_.dq + place.q,
               .dk = plan_.dk + place.kv,
               .dv = plan_.dv + place.kv});
    }
  }

 private:
  const CausalAttentionBackwardPlan plan_;
  const CausalTiles tiles_;
  void (*const kernel_)(const CausalBackward&);
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_causal_attention(uint64_t context, const apiq_causal_attention_args* args) {
  return apiq::cpu::submit<apiq::cpu::CausalAttention>(context, args);
}

extern "C" apiq_status apiq_causal_attention_backward(uint64_t context, const apiq_causal_attention_backward_args* args) {
  return apiq::cpu::submit<apiq::cpu::CausalAttentionBackward>(context, args);
}
