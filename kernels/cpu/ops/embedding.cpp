#include "../../common/plans/embedding.h"

#include <algorithm>
#include <cstring>

#include "../core/context.h"
#include "../isa/float_kernels.h"
#include "../packed/matrices.h"
#include "elementwise_items.h"
#include "report.h"

namespace apiq::cpu {
namespace {

class Embedding final : public Op {
 public:
  Embedding(const EmbeddingPlan& plan, Isa isa)
      : plan_(plan), widen_(float_kernels(isa).widen[plan.table.dtype]), packed_(packed_kernels(isa)), rows_(rows_per_item(plan.table.in_features)) {}

  uint64_t items(uint32_t) const override { return (plan_.rows + rows_ - 1) / rows_; }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker& worker) override {
    const WeightPlan& table = plan_.table;
    const uint64_t width = table.in_features;
    for (uint64_t row = begin * rows_; row < std::min<uint64_t>(end * rows_, plan_.rows); row++) {
      const int32_t id = plan_.ids[row];
      float* y = plan_.y + row * width;
      if (id < 0 || static_cast<uint32_t>(id) >= table.out_features) {
        std::memset(y, 0, width * sizeof(float));
        report(worker, APIQ_OUT_OF_RANGE, "Cannot look up row %" PRIu64 ": received id %d, expected 0 to %u", row, id, table.out_features - 1);
      } else if (table.affine()) {
        packed_.dequantize(affine_matrix(table), static_cast<uint32_t>(id), 1, y, width);
      } else if (table.lut()) {
        packed_.dequantize_lut(lut_matrix(table), static_cast<uint32_t>(id), 1, y, width);
      } else {
        const uint64_t element = table.dtype == APIQ_F32 ? sizeof(float) : sizeof(uint16_t);
        widen_(table.data + static_cast<uint64_t>(id) * width * element, y, width);
      }
    }
  }

 private:
  const EmbeddingPlan plan_;
  void (*const widen_)(const void*, float*, uint64_t);
  const PackedKernels& packed_;
  const uint64_t rows_;  // of an item
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_embedding(uint64_t context, const apiq_embedding_args* args) {
  return apiq::cpu::submit<apiq::cpu::Embedding>(context, args);
}
