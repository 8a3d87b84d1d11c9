// Activations of the int8 path: up to `tokens` rows of x, quantized symmetrically per (row, group) and interleaved so that the
// register tile of a kernel finds the same four columns of all its tokens side by side:
//
//   q        [in_features/4][tokens][4]   int8, rint(x * (127 / max|x|)), to nearest even
//   scale    [groups][tokens]             float32, max|x| / 127
//   sum      [groups][tokens]             int32, minus the sum of q in the group
//   scaled   [groups][tokens]             float32, float(sum of q) * scale, what a float zero is multiplied by
//
// A group whose largest magnitude is below 2^-100 counts as zero (127 / max must stay finite). A group that holds an infinity or
// a NaN gets q = 0 and a scale of NaN, so the row's outputs are NaN whatever the weights.
#pragma once

#include "layout.h"

namespace apiq::cpu {

struct ActivationBlock {
  int8_t* q;
  float* scale;
  int32_t* negative_sum;
  float* scaled_sum;
  uint32_t tokens;

  static uint64_t bytes(uint32_t tokens, uint32_t in_features, uint32_t groups) {
    return round_up(uint64_t{in_features} * tokens, 64) + 3 * round_up(uint64_t{groups} * tokens * 4, 64);
  }
  static ActivationBlock at(std::byte* memory, uint32_t tokens, uint32_t in_features, uint32_t groups) {
    const uint64_t q_bytes = round_up(uint64_t{in_features} * tokens, 64);
    const uint64_t group_bytes = round_up(uint64_t{groups} * tokens * 4, 64);
    std::byte* const scales = memory + q_bytes;
    return {reinterpret_cast<int8_t*>(memory), reinterpret_cast<float*>(scales), reinterpret_cast<int32_t*>(scales + group_bytes),
            reinterpret_cast<float*>(scales + 2 * group_bytes), tokens};
  }
};

}  // namespace apiq::cpu
