// What an AdamW step multiplies by, from its settings.
#pragma once

#include <charconv>
#include <cmath>

#include "../../common/plans/adamw.h"
#include "../isa/training_kernels.h"

namespace apiq::cpu {

// The number that was meant by a float32: the shortest decimal that rounds to it. 0.999 as float32 is off by 1.3e-8, of which
// 1 - beta2 would make a relative error of 1.3e-5.
inline double as_written(float value) {
  char text[32];
  const std::to_chars_result written = std::to_chars(text, text + sizeof text, value);
  double number = 0;
  std::from_chars(text, written.ptr, number);
  return number;
}

inline AdamwFactors factors_of(const AdamwSettings& settings) {
  const double lr = as_written(settings.lr);
  const double beta1 = as_written(settings.beta1);
  const double beta2 = as_written(settings.beta2);
  const double step = static_cast<double>(settings.step);
  return {.decay = static_cast<float>(1 - lr * as_written(settings.weight_decay)),
          .one_minus_beta1 = static_cast<float>(1 - beta1),
          .beta2 = static_cast<float>(beta2),
          .one_minus_beta2 = static_cast<float>(1 - beta2),
          .root = static_cast<float>(std::sqrt(1 - std::pow(beta2, step))),
          .eps = settings.eps,
          .step_size = static_cast<float>(lr / (1 - std::pow(beta1, step))),
          .grad_scale = settings.grad_scale};
}

}  // namespace apiq::cpu
