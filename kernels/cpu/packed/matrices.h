// A checked weight of a plan as the kernels take it.
#pragma once

#include "../../common/plans/weight.h"
#include "kernels.h"

namespace apiq::cpu {

inline AffineMatrix affine_matrix(const WeightPlan& weight) {
  return {weight.data, weight.bits, weight.group, weight.zero, weight.out_features, weight.in_features};
}

inline DenseMatrix dense_matrix(const WeightPlan& weight) {
  return {weight.data, weight.dtype, weight.out_features, weight.in_features};
}

}  // namespace apiq::cpu
