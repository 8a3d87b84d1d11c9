// Plans of rope_table and rotary.
#pragma once

#include "checks.h"

namespace apiq {

struct RopeTablePlan {
  const int32_t* positions;  // [rows]
  const float* inv_freq;     // [half_dim]
  float* table;              // [rows, 2, half_dim]
  uint32_t rows;
  uint32_t half_dim;
  float scale;
};

inline RopeTablePlan plan(ContextBase& context, const apiq_rope_table_args& args) {
  require_positive(args.rows, "rows");
  require_positive(args.half_dim, "half_dim");
  require_finite(args.scale, "scale");
  require_zero(args.reserved, "reserved");
  const uint64_t count = checked_mul(uint64_t{args.rows} * args.half_dim, 2, "table");
  const RopeTablePlan plan{context.in<int32_t>(args.positions, args.rows, "positions"),
                           context.in<float>(args.inv_freq, args.half_dim, "inv_freq"),
                           context.out<float>(args.table, count, "table"),
                           args.rows,
                           args.half_dim,
                           args.scale};
  require_apart(plan.table, count * sizeof(float), plan.positions, args.rows * sizeof(int32_t), "table and positions");
  require_apart(plan.table, count * sizeof(float), plan.inv_freq, args.half_dim * sizeof(float), "table and inv_freq");
  return plan;
}

struct RotaryPlan {
  float* x;            // [rows, n_heads, head_dim]
  const float* table;  // [rows, 2, head_dim / 2]
  uint32_t rows;
  uint32_t n_heads;
  uint32_t head_dim;
  bool inverse;
};

inline RotaryPlan plan(ContextBase& context, const apiq_rotary_args& args) {
  require_positive(args.rows, "rows");
  require_positive(args.n_heads, "n_heads");
  require_positive(args.head_dim, "head_dim");
  require_flag(args.inverse, "inverse");
  APIQ_REQUIRE(args.head_dim % 2 == 0, "head_dim: received %u, expected an even number", args.head_dim);
  const uint64_t count = checked_mul(uint64_t{args.rows} * args.n_heads, args.head_dim, "x");
  const uint64_t table_count = uint64_t{args.rows} * args.head_dim;
  const RotaryPlan plan{context.out<float>(args.x, count, "x"), context.in<float>(args.table, table_count, "table"), args.rows,
                        args.n_heads, args.head_dim, args.inverse == 1};
  require_apart(plan.x, count * sizeof(float), plan.table, table_count * sizeof(float), "x and table");
  return plan;
}

}  // namespace apiq
