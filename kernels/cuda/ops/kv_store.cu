// apiq_kv_store: the rows' keys and values to their places in the paged cache.
#include "../launch.h"
#include "paged.cuh"

namespace apiq::cuda {
namespace {

constexpr uint32_t kv_store_threads = 128;

template <class Element>
struct KvStoreArgs {
  PagedCache<decltype(Element::stored)> cache;
  Global<const float> keys;  // [rows, n_kv_heads, head_dim]
  Global<const float> values;
};

// Grid: a block per row.
template <class Element>
APIQ_KERNEL(kv_store_threads) kv_store_kernel(KvStoreArgs<Element> a) {
  const uint32_t row = block_index_x();
  const uint32_t position = a.cache.position(row);
  if (position == no_row) return;
  const int32_t block = a.cache.block(row, position / KvPlan::block_size);
  if (block < 0) return;
  const uint32_t slot = position % KvPlan::block_size;
  const uint32_t head_dim = a.cache.head_dim;
  const uint32_t width = a.cache.n_kv_heads * head_dim;
  for (uint32_t i = thread_index(); i < width; i += kv_store_threads) {
    const uint64_t head = a.cache.head(block, i / head_dim);
    const uint32_t d = i % head_dim;
    const uint64_t source = static_cast<uint64_t>(row) * width + i;
    a.cache.k.store(head + d * KvPlan::block_size + slot, Element::stored_form(a.keys.load(source)));
    a.cache.v.store(head + static_cast<uint64_t>(slot) * head_dim + d, Element::stored_form(a.values.load(source)));
  }
}

template <class Element>
void launch_kv_store(Context& context, const KvStorePlan& plan) {
  const uint64_t count = uint64_t{plan.kv.rows} * plan.kv.n_kv_heads * plan.kv.head_dim;
  KvStoreArgs<Element> args;
  args.cache = paged_cache<decltype(Element::stored)>(plan.kv, context.fault_word());
  args.keys = {plan.keys, count};
  args.values = {plan.values, count};
  context.stream().launch(kv_store_kernel<Element>, line_of_blocks(plan.kv.rows, kv_store_threads), args);
}

void run_kv_store(Context& context, const KvStorePlan& plan) {
  if (plan.kv.dtype == APIQ_F32) return launch_kv_store<Float32>(context, plan);
  launch_kv_store<Float16>(context, plan);
}

}  // namespace
}  // namespace apiq::cuda

extern "C" apiq_status apiq_kv_store(uint64_t context, const apiq_kv_store_args* args) {
  return apiq::cuda::submit(context, args, &apiq::cuda::run_kv_store);
}
