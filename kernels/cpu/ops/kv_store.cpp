#include "../core/context.h"
#include "../isa/float_kernels.h"
#include "elementwise_items.h"
#include "kv_rows.h"

namespace apiq::cpu {
namespace {

class KvStore final : public Op {
 public:
  KvStore(const KvStorePlan& plan, Isa isa)
      : plan_(plan),
        kernel_(float_kernels(isa).kv_store[plan.kv.dtype]),
        width_(uint64_t{plan.kv.n_kv_heads} * plan.kv.head_dim),
        rows_(rows_per_item(width_)) {}

  uint64_t items(uint32_t) const override { return (plan_.kv.rows + rows_ - 1) / rows_; }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker& worker) override {
    const KvPlan& kv = plan_.kv;
    for (uint64_t row = begin * rows_; row < std::min<uint64_t>(end * rows_, kv.rows); row++) {
      const int32_t* blocks = row_blocks(kv, row, worker);
      if (blocks == nullptr) continue;
      const uint32_t position = static_cast<uint32_t>(kv.row_pos[row]);
      const uint32_t entry = position / KvPlan::block_size;
      if (!blocks_exist(kv, blocks, entry, entry + 1, row, worker)) continue;
      for (uint32_t head = 0; head < kv.n_kv_heads; head++) {
        const uint64_t offset = head_offset(kv, static_cast<uint32_t>(blocks[entry]), head);
        const uint64_t source = row * width_ + uint64_t{head} * kv.head_dim;
        kernel_(plan_.keys + source, plan_.values + source, kv.k + offset, kv.v + offset, position % KvPlan::block_size, kv.head_dim);
      }
    }
  }

 private:
  const KvStorePlan plan_;
  void (*const kernel_)(const float*, const float*, void*, void*, uint32_t, uint32_t);
  const uint64_t width_;  // of a row, in elements
  const uint64_t rows_;   // of an item
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_kv_store(uint64_t context, const apiq_kv_store_args* args) {
  return apiq::cpu::submit<apiq::cpu::KvStore>(context, args);
}
