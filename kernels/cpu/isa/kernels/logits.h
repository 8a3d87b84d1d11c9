// Kernels over one row of logits.
#pragma once

namespace apiq::cpu::APIQ_ISA {
namespace {

constexpr float lowest = -__builtin_inff();

// Calls f(vector, first index, lanes in use) for every 16 logits; lanes out of use hold -infinity.
template <class F>
void each_vector(const float* logits, uint64_t count, F f) {
  uint64_t i = 0;
  for (; i + 16 <= count; i += 16) f(load(logits + i), i, 16u);
  if (i < count) {
    const uint32_t n = static_cast<uint32_t>(count - i);
    f(select((1u << n) - 1u, load_n(logits + i, n), broadcast(lowest)), i, n);
  }
}

float largest_value(const float* logits, uint64_t count) {
  Vec16 most = broadcast(lowest);
  each_vector(logits, count, [&](Vec16 v, uint64_t, uint32_t) { most = max(most, v); });
  return maximum(most);
}

// Lanes add up 4,096 logits at a time in float32, the totals of those in float64: 150,000 terms lose nothing that shows.
LogitStatistics statistics(const float* logits, uint64_t count) {
  constexpr uint64_t chunk = 4096;
  const float maximum = largest_value(logits, count);
  const Vec16 shift = broadcast(maximum);
  double total = 0;
  for (uint64_t first = 0; first < count; first += chunk) {
    const uint64_t n = count - first < chunk ? count - first : chunk;
    Vec16 part = zero();
    each_vector(logits + first, n, [&](Vec16 v, uint64_t, uint32_t) { part = add(part, exp(sub(v, shift))); });
    total += static_cast<double>(sum(part));
  }
  return {maximum, total};
}

uint32_t largest(const float* logits, uint64_t count) {
  const Vec16 most = broadcast(largest_value(logits, count));
  for (uint64_t i = 0; i < count; i += 16) {
    const uint32_t n = count - i < 16 ? static_cast<uint32_t>(count - i) : 16;
    const uint32_t equal = ~less(load_n(logits + i, n), most) & ((1u << n) - 1u);
    if (equal != 0) return static_cast<uint32_t>(i) + static_cast<uint32_t>(__builtin_ctz(equal));
  }
  return 0;
}

// Insertion into a short sorted list; a vector of logits that reaches nobody in it costs one comparison.
void top(const float* logits, uint64_t count, uint32_t n, int32_t* index, float* value) {
  if (n == 0) return;
  uint32_t held = 0;
  each_vector(logits, count, [&](Vec16 v, uint64_t first, uint32_t lanes) {
    uint32_t candidates = held < n ? (1u << lanes) - 1u : less(broadcast(value[n - 1]), v) & ((1u << lanes) - 1u);
    for (; candidates != 0; candidates &= candidates - 1) {
      const uint64_t i = first + static_cast<uint32_t>(__builtin_ctz(candidates));
      if (held == n && !(logits[i] > value[n - 1])) continue;
      uint32_t place = held < n ? held++ : n - 1;
      for (; place > 0 && logits[i] > value[place - 1]; place--) {
        value[place] = value[place - 1];
        index[place] = index[place - 1];
      }
      value[place] = logits[i];
      index[place] = static_cast<int32_t>(i);
    }
  });
}

void weigh(const float* logits, uint64_t count, float maximum, float temperature, float* w) {
  const Vec16 shift = broadcast(maximum);
  const Vec16 divisor = broadcast(temperature);
  each_vector(logits, count, [&](Vec16 v, uint64_t first, uint32_t lanes) { store_n(w + first, exp(div(sub(v, shift), divisor)), lanes); });
}

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
