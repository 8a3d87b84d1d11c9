#pragma once

#include "weight.h"

namespace apiq {

struct EmbeddingPlan {
  WeightPlan table;    // [entries, width]
  const int32_t* ids;  // [rows]
  float* y;            // [rows, width]
  uint32_t rows;
};

inline EmbeddingPlan plan(ContextBase& context, const apiq_embedding_args& args) {
  require_positive(args.rows, "rows");
  require_zero(args.reserved, "reserved");
  const WeightPlan table = readable_weight(context, args.table, "table");
  const uint64_t count = uint64_t{args.rows} * table.in_features;
  const EmbeddingPlan plan{table, context.in<int32_t>(args.ids, args.rows, "ids"), context.out<float>(args.y, count, "y"), args.rows};
  require_apart(plan.y, count * sizeof(float), plan.ids, args.rows * sizeof(int32_t), "y and ids");
  return plan;
}

}  // namespace apiq
