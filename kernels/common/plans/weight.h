#pragma once

#include "checks.h"

namespace apiq {

// A checked weight matrix. `data` is dense elements or the backend's packed form; null where only the shape was asked for.
struct WeightPlan {
  const std::byte* data;
  uint32_t kind;
  uint32_t dtype;
  uint32_t bits;
  uint32_t group;
  uint32_t zero;
  uint32_t out_features;
  uint32_t in_features;

  bool affine() const { return kind == APIQ_WEIGHT_AFFINE; }
  bool lut() const { return kind == APIQ_WEIGHT_LUT; }
  bool packed() const { return kind != APIQ_WEIGHT_DENSE; }
};

// Bytes of the packed form of an affine or lut weight; each backend has its own layout and defines this.
uint64_t packed_bytes(const WeightPlan& weight);

// Checks the enumerators and the shape; `name` is the argument's name in apiq.h. The data is not looked at.
WeightPlan weight_shape(const apiq_weight& weight, const char* name);
// The same, and resolves the data to read it.
WeightPlan readable_weight(ContextBase& context, const apiq_weight& weight, const char* name);

struct RepackPlan {
  WeightPlan weight;        // data: null
  std::byte* target;        // packed_bytes(weight)
  const uint32_t* qweight;  // [in*bits/32, out]
  const void* zeros;        // uint32 [in/group, ceil(out*bits/32)], or float16 [in/group, out]; lut: null
  const uint16_t* scales;   // float16 [in/group, out]
  const float* table;       // [2^bits]; affine: null
  uint64_t qweight_bytes;
  uint64_t zeros_bytes;
  uint64_t scales_bytes;
  uint32_t format;
  bool release_source;
};
RepackPlan plan(ContextBase& context, const apiq_weight_repack_args& args);

struct DequantizePlan {
  WeightPlan weight;
  float* y;  // [n_rows, in_features]
  uint32_t first_row;
  uint32_t n_rows;
};
DequantizePlan plan(ContextBase& context, const apiq_weight_dequantize_args& args);

}  // namespace apiq
