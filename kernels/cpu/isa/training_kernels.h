// The float kernels of training and quantization; see float_kernels.h, whose rules hold.
#pragma once

#include <cstdint>

#include "../core/isa.h"

namespace apiq::cpu {

// What one AdamW step multiplies by, computed once in double precision.
struct AdamwFactors {
  float decay;            // 1 - lr weight_decay
  float one_minus_beta1;
  float beta2;
  float one_minus_beta2;
  float root;             // sqrt(1 - beta2^step)
  float eps;
  float step_size;        // lr / (1 - beta1^step)
  float grad_scale;
};

// Neighbouring groups of one row-major matrix.
struct QuantizerGroups {
  const float* w;      // [groups, group]
  const float* scale;  // [groups]
  const float* zero;   // [groups]
  uint64_t groups;
  uint32_t group;  // a multiple of 8
  float top;       // 2^bits - 1
  bool clamp_zero;
};

struct DropoutMask {
  uint64_t seed;
  uint64_t stream;
  uint32_t threshold;  // at most 2^16
  float scale;
};

// factor * exp((x - shift) * by)
struct ExpTerm {
  float factor;
  float shift;
  float by;
};

struct TrainingKernels {
  // y[i] = x[i] * scale[i]
  void (*multiply)(const float* x, const float* scale, float* y, uint64_t count);
  // sums[c] += a[r, c] b[r, c] for the rows, `stride` apart, in order; b null: a[r, c]. sums has room for a multiple of 16.
  void (*dot_columns)(const float* a, const float* b, double* sums, uint32_t rows, uint64_t stride, uint64_t cols);
  // y[r, c] = x[r, c] * scale[r]; y may be x.
  void (*scale_rows)(const float* x, const float* scale, float* y, uint64_t rows, uint64_t cols);
  // y[r] (+)= sum over c of a[r, c] b[r, c]
  void (*dot_rows)(const float* a, const float* b, float* y, uint64_t rows, uint64_t cols, bool accumulate);
  double (*sum_squares)(const float* x, uint64_t count);
  // y[i] (+)= scale * x[i] where the element's random number is at least `threshold`; see apiq_dropout. x is element `first`, a
  // multiple of 128.
  void (*dropout)(const float* x, float* y, uint64_t first, uint64_t count, const DropoutMask& mask, bool accumulate);

  void (*rms_norm_backward)(const float* x, const float* weight, const float* dy, float* dx, uint32_t cols, float eps,
                            bool accumulate);
  // Adds the rows' terms of a norm's gradient, in order, to sums, which has room for a multiple of 16.
  void (*rms_norm_weight_backward)(const float* x, const float* dy, double* sums, uint32_t rows, uint32_t cols, float eps);
  void (*silu_mul_backward)(const float* gate, const float* up, const float* dy, float* dgate, float* dup, uint64_t count);

  // Returns sum((prediction - target)^2); grad (+)= factor * (prediction - target) unless it is null.
  double (*mse)(const float* prediction, const float* target, float* grad, float factor, bool accumulate, uint64_t count);
  // y = scale * softmax(x); y may be x. All NaN if x has a NaN or +infinity, or only -infinity.
  void (*softmax)(const float* x, float scale, float* y, uint64_t count);

  // -infinity for none; NaNs are passed over where another value follows.
  float (*largest_value)(const float* x, uint64_t count);
  // sum of exp((x - shift) * by); a NaN if x has one. No x exceeds shift.
  double (*exp_sum)(const float* x, uint64_t count, float shift, float by);
  // y = a(x) + b(x); y may be x.
  void (*add_exps)(const float* x, float* y, uint64_t count, ExpTerm a, ExpTerm b);

  void (*adamw)(float* parameter, const float* grad, float* m, float* v, uint64_t count, const AdamwFactors& factors);

  void (*group_range)(const float* w, float* low, float* high, uint64_t groups, uint32_t group, bool include_zero);
  // Factors null: 1.
  void (*clip_range)(const float* low, const float* high, const float* low_factor, const float* high_factor, float* scale,
                     float* zero, uint64_t count, float top, bool round_scale);
  void (*clip_range_backward)(const float* low, const float* high, const float* low_factor, const float* high_factor,
                              const float* dscale, float* dlow_factor, float* dhigh_factor, uint64_t count, float top);
  // y or q may be null.
  void (*fake_quantize)(const QuantizerGroups& groups, float* y, uint8_t* q);
  // dw or dzero may be null.
  void (*fake_quantize_backward)(const QuantizerGroups& groups, const float* dy, float* dw, float* dscale, float* dzero,
                                 bool edges_inside);
};

const TrainingKernels& training_kernels(Isa isa);

namespace scalar { extern const TrainingKernels training_kernels; }
namespace avx2 { extern const TrainingKernels training_kernels; }
namespace avx512 { extern const TrainingKernels training_kernels; }

}  // namespace apiq::cpu
