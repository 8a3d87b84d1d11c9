// A checked weight of a plan as the kernels take it.
#pragma once

#include "../../common/plans/weight.h"
#include "kernels.h"

namespace apiq::cpu {

inline AffineMatrix affine_matrix(const WeightPlan& weight) {
  return {weight.data, weight.bits, weight.group, weight.zero, weight.out_features, weight.in_features};
}

inline LutMatrix lut_matrix(const WeightPlan& weight) {
  const std::byte* const codes = weight.data == nullptr ? nullptr : weight.data + LutMatrix::header_bytes;
  return {{codes, weight.bits, weight.group, no_zeros, weight.out_features, weight.in_features},
          reinterpret_cast<const float*>(weight.data)};
}

inline DenseMatrix dense_matrix(const WeightPlan& weight) {
  return {weight.data, weight.dtype, weight.out_features, weight.in_features};
}

}  // namespace apiq::cpu
