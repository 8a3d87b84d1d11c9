#include "../../common/plans/lora.h"

#include <algorithm>
#include <memory>

#include "../core/context.h"
#include "../isa/float_kernels.h"
#include "report.h"

namespace apiq::cpu {
namespace {

// Phase 0: h = x A^T for every (row, slot of the row, part); an item is a tile of ranks.
// Phase 1: y += scale * h B, then DoRA's factors; an item is a tile of outputs, so one thread adds both slots of a row, in order.
// Rows come in tiles of 64; inside a tile, rows with the same adapter are computed together.
class Lora final : public Op {
 public:
  Lora(const LoraPlan& plan, Isa isa)
      : plan_(plan),
        kernels_(float_kernels(isa)),
        row_tiles_((plan.rows + rows_per_tile - 1) / rows_per_tile),
        rank_tiles_((plan.max_rank + ranks_per_tile - 1) / ranks_per_tile),
        h_(std::make_unique_for_overwrite<float[]>(checked_mul(uint64_t{plan.n_parts} * 2 * plan.rows, plan.max_rank, "max_rank"))) {
    for (uint32_t i = 0; i < plan.n_parts; i++) {
      out_tiles_[i] = (plan.parts[i].out_features + outputs_per_tile - 1) / outputs_per_tile;
      all_out_tiles_ += out_tiles_[i];
    }
  }

  uint32_t phases() const override { return 2; }

  uint64_t items(uint32_t phase) const override {
    return row_tiles_ * (phase == 0 ? uint64_t{plan_.n_parts} * 2 * rank_tiles_ : all_out_tiles_);
  }

  void run(uint32_t phase, uint64_t begin, uint64_t end, Worker& worker) override {
    for (uint64_t item = begin; item < end; item++) {
      const uint64_t tile = item % row_tiles_;
      uint64_t rest = item / row_tiles_;
      if (phase == 0) {
        const uint64_t rank_tile = rest % rank_tiles_;
        rest /= rank_tiles_;
        down(tile, static_cast<uint32_t>(rest / 2), static_cast<uint32_t>(rest % 2), static_cast<uint32_t>(rank_tile) * ranks_per_tile, worker);
      } else {
        uint32_t part = 0;
        for (; rest >= out_tiles_[part]; part++) rest -= out_tiles_[part];
        up(tile, part, static_cast<uint32_t>(rest) * outputs_per_tile, worker);
      }
    }
  }

 private:
  static constexpr uint32_t rows_per_tile = 64;
  static constexpr uint32_t ranks_per_tile = 16;
  static constexpr uint32_t outputs_per_tile = 512;

  // Calls f(slot, next, rows) for every valid, non-empty slot that rows of the tile name as their calibrated (which = 0) or requested
  // (which = 1) adapter. `next` is the slot of the rows after them, null where there are none or it is not like this one.
  template <class F>
  void each_slot(uint64_t tile, uint32_t part, uint32_t which, Worker& worker, F f) const {
    const uint32_t first = static_cast<uint32_t>(tile) * rows_per_tile;
    const uint32_t count = std::min(rows_per_tile, plan_.rows - first);
    const auto slot_of = [&](uint32_t row) { return plan_.row_slots[uint64_t{row} * 2 + which]; };
    uint32_t rows[rows_per_tile];
    for (uint32_t i = 0; i < count; i++) rows[i] = first + i;
    const auto by_slot = [&](uint32_t a, uint32_t b) { return slot_of(a) != slot_of(b) ? slot_of(a) < slot_of(b) : a < b; };
    if (!std::is_sorted(rows, rows + count, by_slot)) std::sort(rows, rows + count, by_slot);

    for (uint32_t i = 0, next; i < count; i = next) {
      const int32_t number = slot_of(rows[i]);
      for (next = i + 1; next < count && slot_of(rows[next]) == number;) next++;
      if (number < 0) continue;
      if (static_cast<uint32_t>(number) >= plan_.n_slots) {
        report(worker, APIQ_OUT_OF_RANGE, "Cannot apply LoRA to row %u: received slot %d, expected less than %u", rows[i], number, plan_.n_slots);
        continue;
      }
      const apiq_lora_slot& slot = plan_.parts[part].slots[number];
      const LoraSlotFault fault = lora_slot_fault(slot, plan_, plan_.parts[part].out_features);
      if (fault.status != APIQ_OK) {
        report(worker, fault.status,
               "Cannot apply LoRA slot %d of part %u: %s (rank %u, A at %" PRIu64 ", B at %" PRIu64 ", pool of %" PRIu64 " bytes)", number,
               part, fault.text, slot.rank, slot.a_offset, slot.b_offset, plan_.pool_bytes);
        continue;
      }
      if (slot.rank == 0) continue;
      const int64_t following = next < count ? slot_of(rows[next]) : -1;
      const apiq_lora_slot* const after = following >= 0 && following < plan_.n_slots ? &plan_.parts[part].slots[following] : nullptr;
      const bool is_alike = after != nullptr && after->rank == slot.rank && after->dtype == slot.dtype &&
                            lora_slot_fault(*after, plan_, plan_.parts[part].out_features).status == APIQ_OK;
      f(slot, is_alike ? after : nullptr, LoraRows{rows + i, next - i});
    }
  }

  float* h(uint32_t part, uint32_t which) { return h_.get() + (uint64_t{part} * 2 + which) * plan_.rows * plan_.max_rank; }

  void down(uint64_t tile, uint32_t part, uint32_t which, uint32_t first_rank, Worker& worker) {
    each_slot(tile, part, which, worker, [&](const apiq_lora_slot& slot, const apiq_lora_slot* next, LoraRows rows) {
      if (slot.rank <= first_rank) return;
      const uint64_t element = slot.dtype == APIQ_F32 ? sizeof(float) : sizeof(uint16_t);
      const uint64_t begin = uint64_t{first_rank} * plan_.in_features * element;
      const std::byte* a = plan_.pool + slot.a_offset + begin;
      const std::byte* next_a = next == nullptr ? nullptr : plan_.pool + next->a_offset + begin;
      kernels_.lora_down[slot.dtype](plan_.x, plan_.in_features, rows, a, next_a, std::min(ranks_per_tile, slot.rank - first_rank),
                                     h(part, which) + first_rank, plan_.max_rank);
    });
  }

  void up(uint64_t tile, uint32_t part, uint32_t first_output, Worker& worker) {
    const uint32_t out_features = plan_.parts[part].out_features;
    const uint32_t end = std::min(first_output + outputs_per_tile, out_features);
    for (uint32_t which = 0; which < 2; which++) {
      each_slot(tile, part, which, worker, [&](const apiq_lora_slot& slot, const apiq_lora_slot* next, LoraRows rows) {
        const std::byte* next_b = next == nullptr ? nullptr : plan_.pool + next->b_offset;
        const std::byte* factors = slot.factors == 0 ? nullptr : plan_.pool + lora_factors_offset(slot, out_features);
        kernels_.lora_up[slot.dtype](h(part, which), plan_.max_rank, rows, plan_.pool + slot.b_offset, next_b, slot.rank, out_features,
                                     first_output, end, slot.scale, reinterpret_cast<const float*>(factors), plan_.parts[part].y);
      });
    }
  }

  const LoraPlan plan_;
  const FloatKernels& kernels_;
  const uint64_t row_tiles_;
  const uint64_t rank_tiles_;
  uint64_t out_tiles_[APIQ_MAX_PARTS] = {};
  uint64_t all_out_tiles_ = 0;
  std::unique_ptr<float[]> h_;  // [parts, 2, rows, max_rank]
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_lora(uint64_t context, const apiq_lora_args* args) { return apiq::cpu::submit<apiq::cpu::Lora>(context, args); }
