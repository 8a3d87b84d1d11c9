// Plans of scale_columns, dot_columns, scale_rows, dot_rows and row_norms.
#pragma once

#include "checks.h"

namespace apiq {

struct ScaleColumnsPlan {
  const float* x;      // [rows, cols]
  const float* scale;  // [cols]
  float* y;            // [rows, cols]
  uint32_t rows;
  uint32_t cols;
};

inline ScaleColumnsPlan plan(ContextBase& context, const apiq_scale_columns_args& args) {
  require_positive(args.rows, "rows");
  require_positive(args.cols, "cols");
  const uint64_t count = uint64_t{args.rows} * args.cols;
  const ScaleColumnsPlan plan{context.in<float>(args.x, count, "x"), context.in<float>(args.scale, args.cols, "scale"),
                              context.out<float>(args.y, count, "y"), args.rows, args.cols};
  require_same_or_apart(plan.y, plan.x, count * sizeof(float), "y and x");
  require_apart(plan.y, count * sizeof(float), plan.scale, args.cols * sizeof(float), "y and scale");
  return plan;
}

struct DotColumnsPlan {
  const float* a;  // [rows, cols]
  const float* b;  // [rows, cols] or null
  float* y;        // [cols]
  uint32_t rows;
  uint32_t cols;
  bool accumulate;
};

inline DotColumnsPlan plan(ContextBase& context, const apiq_dot_columns_args& args) {
  require_positive(args.rows, "rows");
  require_positive(args.cols, "cols");
  require_flag(args.accumulate, "accumulate");
  require_zero(args.reserved, "reserved");
  const uint64_t count = uint64_t{args.rows} * args.cols;
  const DotColumnsPlan plan{context.in<float>(args.a, count, "a"),
                            context.in_optional<float>(args.b, count, "b"),
                            context.out<float>(args.y, args.cols, "y"),
                            args.rows,
                            args.cols,
                            args.accumulate == 1};
  require_apart(plan.y, args.cols * sizeof(float), plan.a, count * sizeof(float), "y and a");
  if (plan.b != nullptr) require_apart(plan.y, args.cols * sizeof(float), plan.b, count * sizeof(float), "y and b");
  return plan;
}

struct ScaleRowsPlan {
  const float* x;      // [rows, cols]
  const float* scale;  // [rows]
  float* y;            // [rows, cols]
  uint32_t rows;
  uint32_t cols;
};

inline ScaleRowsPlan plan(ContextBase& context, const apiq_scale_rows_args& args) {
  require_positive(args.rows, "rows");
  require_positive(args.cols, "cols");
  const uint64_t count = uint64_t{args.rows} * args.cols;
  const ScaleRowsPlan plan{context.in<float>(args.x, count, "x"), context.in<float>(args.scale, args.rows, "scale"),
                           context.out<float>(args.y, count, "y"), args.rows, args.cols};
  require_same_or_apart(plan.y, plan.x, count * sizeof(float), "y and x");
  require_apart(plan.y, count * sizeof(float), plan.scale, args.rows * sizeof(float), "y and scale");
  return plan;
}

struct DotRowsPlan {
  const float* a;  // [rows, cols]
  const float* b;  // [rows, cols]
  float* y;        // [rows]
  uint32_t rows;
  uint32_t cols;
  bool accumulate;
};

inline DotRowsPlan plan(ContextBase& context, const apiq_dot_rows_args& args) {
  require_positive(args.rows, "rows");
  require_positive(args.cols, "cols");
  require_flag(args.accumulate, "accumulate");
  require_zero(args.reserved, "reserved");
  const uint64_t count = uint64_t{args.rows} * args.cols;
  const DotRowsPlan plan{context.in<float>(args.a, count, "a"),
                         context.in<float>(args.b, count, "b"),
                         context.out<float>(args.y, args.rows, "y"),
                         args.rows,
                         args.cols,
                         args.accumulate == 1};
  require_apart(plan.y, args.rows * sizeof(float), plan.a, count * sizeof(float), "y and a");
  require_apart(plan.y, args.rows * sizeof(float), plan.b, count * sizeof(float), "y and b");
  return plan;
}

struct RowNormsPlan {
  const float* x;  // [rows, cols]
  float* y;        // [rows]
  uint32_t rows;
  uint32_t cols;
};

inline RowNormsPlan plan(ContextBase& context, const apiq_row_norms_args& args) {
  require_positive(args.rows, "rows");
  require_positive(args.cols, "cols");
  const uint64_t count = uint64_t{args.rows} * args.cols;
  const RowNormsPlan plan{context.in<float>(args.x, count, "x"), context.out<float>(args.y, args.rows, "y"), args.rows, args.cols};
  require_apart(plan.y, args.rows * sizeof(float), plan.x, count * sizeof(float), "y and x");
  return plan;
}

}  // namespace apiq
