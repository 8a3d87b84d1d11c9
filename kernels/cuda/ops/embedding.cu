// apiq_embedding: rows of a dense or packed table.
#include "../../common/plans/embedding.h"

#include "../device_faults.h"
#include "../elements.cuh"
#include "../launch.h"

namespace apiq::cuda {
namespace {

constexpr uint32_t embedding_threads = 128;

template <class Element>
struct DenseTable {
  Global<const decltype(Element::stored)> entries;
  uint32_t width;
  APIQ_DEVICE float element(uint32_t entry, uint32_t column) const {
    return Element::value(entries.load(static_cast<uint64_t>(entry) * width + column));
  }
};

template <class Table>
struct EmbeddingArgs {
  Table table;
  Global<const int32_t> ids;
  Global<float> y;  // [rows, width]
  Global<uint32_t> fault;
  uint32_t entries;
  uint32_t width;
};

// Grid: a block per row.
template <class Table>
APIQ_KERNEL(embedding_threads) embedding_kernel(EmbeddingArgs<Table> a) {
  const uint64_t first = static_cast<uint64_t>(block_index_x()) * a.width;
  const int32_t id = a.ids.load(block_index_x());
  const bool exists = id >= 0 && static_cast<uint32_t>(id) < a.entries;
  if (!exists && thread_index() == 0) a.fault.store(0, embedding_id_out_of_range);
  for (uint32_t i = thread_index(); i < a.width; i += embedding_threads) {
    a.y.store(first + i, exists ? a.table.element(static_cast<uint32_t>(id), i) : 0.0f);
  }
}

template <class Table>
void launch_embedding(Context& context, const EmbeddingPlan& plan, const Table& table) {
  const uint32_t width = plan.table.in_features;
  const EmbeddingArgs<Table> args{table, {plan.ids, plan.rows}, {plan.y, uint64_t{plan.rows} * width}, {context.fault_word(), 1},
                                  plan.table.out_features, width};
  context.stream().launch(embedding_kernel<Table>, line_of_blocks(plan.rows, embedding_threads), args);
}

template <class Element>
void launch_dense(Context& context, const EmbeddingPlan& plan) {
  using Stored = decltype(Element::stored);
  const uint64_t count = uint64_t{plan.table.out_features} * plan.table.in_features;
  launch_embedding(context, plan, DenseTable<Element>{{reinterpret_cast<const Stored*>(plan.table.data), count}, plan.table.in_features});
}

void run_embedding(Context& context, const EmbeddingPlan& plan) {
  if (plan.table.affine()) return launch_embedding(context, plan, tile_reader(plan.table));
  switch (plan.table.dtype) {
    case APIQ_F32: launch_dense<Float32>(context, plan); break;
    case APIQ_F16: launch_dense<Float16>(context, plan); break;
    case APIQ_BF16: launch_dense<Bfloat16>(context, plan); break;
  }
}

}  // namespace
}  // namespace apiq::cuda

extern "C" apiq_status apiq_embedding(uint64_t context, const apiq_embedding_args* args) {
  return apiq::cuda::submit(context, args, &apiq::cuda::run_embedding);
}
