// Kernels of losses and their gradients.
#pragma once

namespace apiq::cpu::APIQ_ISA {
namespace {

double mse(const float* prediction, const float* target, float* grad, float factor, bool accumulate, uint64_t count) {
  const Vec16 by = broadcast(factor);
  Double16 sums = zero_sums();
  each16(count, [&](uint64_t i, auto lanes) {
    const Vec16 error = sub(load(prediction + i, lanes), load(target + i, lanes));
    sums = add_product(sums, error, error);
    if (grad == nullptr) return;
    store(grad + i, accumulate ? fma(error, by, load(grad + i, lanes)) : mul(error, by), lanes);
  });
  return sum(sums);
}

// A vector of logits; lanes past the end hold -infinity, whose exponential is 0.
inline Vec16 load_logits(const float* p, Whole) { return load(p); }
inline Vec16 load_logits(const float* p, Part part) {
  return select((1u << part.n) - 1u, load_n(p, part.n), broadcast(-__builtin_inff()));
}

// Each exponential is computed once and kept in y until their sum is known; lanes add up 4,096 of them at a time in float32.
void softmax(const float* x, float scale, float* y, uint64_t count) {
  constexpr uint64_t chunk = 4096;
  Vec16 most = broadcast(-__builtin_inff());
  each16(count, [&](uint64_t i, auto lanes) { most = max(most, load_logits(x + i, lanes)); });
  const Vec16 shift = broadcast(maximum(most));
  double total = 0;
  for (uint64_t first = 0; first < count; first += chunk) {
    Vec16 part = zero();
    each16(count - first < chunk ? count - first : chunk, [&](uint64_t i, auto lanes) {
      const Vec16 e = exp(sub(load_logits(x + first + i, lanes), shift));
      part = add(part, e);
      store(y + first + i, e, lanes);
    });
    total += static_cast<double>(sum(part));
  }
  const Vec16 by = broadcast(static_cast<float>(static_cast<double>(scale) / total));
  each16(count, [&](uint64_t i, auto lanes) { store(y + i, mul(load(y + i, lanes), by), lanes); });
}

float largest_value_of(const float* x, uint64_t count) {
  Vec16 most = broadcast(-__builtin_inff());
  each16(count, [&](uint64_t i, auto lanes) { most = max(most, load_logits(x + i, lanes)); });
  return maximum(most);
}

// Lanes add up 4,096 terms at a time in float32, as in softmax.
double exp_sum(const float* x, uint64_t count, float shift, float by) {
  constexpr uint64_t chunk = 4096;
  const Vec16 less_by = broadcast(shift);
  const Vec16 times = broadcast(by);
  double total = 0;
  for (uint64_t first = 0; first < count; first += chunk) {
    Vec16 part = zero();
    each16(count - first < chunk ? count - first : chunk, [&](uint64_t i, auto lanes) {
      part = add(part, exp(mul(sub(load_logits(x + first + i, lanes), less_by), times)));
    });
    total += static_cast<double>(sum(part));
  }
  return total;
}

void add_exps(const float* x, float* y, uint64_t count, ExpTerm a, ExpTerm b) {
  const auto term = [](Vec16 v, ExpTerm t) {
    return mul(broadcast(t.factor), exp(mul(sub(v, broadcast(t.shift)), broadcast(t.by))));
  };
  if (b.factor == 0) {
    each16(count, [&](uint64_t i, auto lanes) { store(y + i, term(load_logits(x + i, lanes), a), lanes); });
    return;
  }
  each16(count, [&](uint64_t i, auto lanes) {
    const Vec16 v = load_logits(x + i, lanes);
    store(y + i, add(term(v, a), term(v, b)), lanes);
  });
}

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
