// Kernels over one row of activations: embedding, norm, rotary, and the way into the cache.
#pragma once

namespace apiq::cpu::APIQ_ISA {
namespace {

template <class T>
void widen_row(const void* table, float* y, uint64_t count) {
  const T* x = static_cast<const T*>(table);
  uint64_t i = 0;
  for (; i + 16 <= count; i += 16) store(y + i, load(x + i));
  if (i < count) {
    const uint32_t rest = static_cast<uint32_t>(count - i);
    store_n(y + i, load_n(x + i, rest), rest);
  }
}

void rms_norm(const float* x, const float* weight, float* y, uint32_t cols, float eps) {
  const uint32_t rest = cols % 16;
  const uint32_t whole = cols - rest;
  Vec16 squares = zero();
  for (uint32_t i = 0; i < whole; i += 16) {
    const Vec16 v = load(x + i);
    squares = fma(v, v, squares);
  }
  if (rest != 0) {
    const Vec16 v = load_n(x + whole, rest);
    squares = fma(v, v, squares);
  }
  const float mean = sum(squares) / static_cast<float>(cols);
  const Vec16 scale = broadcast(1.0f / __builtin_sqrtf(mean + eps));
  for (uint32_t i = 0; i < whole; i += 16) store(y + i, mul(mul(load(x + i), scale), load(weight + i)));
  if (rest != 0) store_n(y + whole, mul(mul(load_n(x + whole, rest), scale), load_n(weight + whole, rest)), rest);
}

void rotary(float* x, const float* table, uint32_t n_heads, uint32_t head_dim, bool inverse) {
  const uint32_t half = head_dim / 2;
  const Vec16 sign = broadcast(inverse ? -1.0f : 1.0f);
  for (uint32_t head = 0; head < n_heads; head++, x += head_dim) {
    for (uint32_t i = 0; i < half; i += 16) {
      const uint32_t n = half - i < 16 ? half - i : 16;
      const Vec16 c = load_n(table + i, n);
      const Vec16 s = mul(load_n(table + half + i, n), sign);
      const Vec16 a = load_n(x + i, n);
      const Vec16 b = load_n(x + half + i, n);
      store_n(x + i, sub(mul(a, c), mul(b, s)), n);
      store_n(x + half + i, add(mul(b, c), mul(a, s)), n);
    }
  }
}

template <class T>
void kv_store(const float* key, const float* value, void* k, void* v, uint32_t slot, uint32_t head_dim) {
  T* keys = static_cast<T*>(k);
  T* values = static_cast<T*>(v) + uint64_t{slot} * head_dim;
  for (uint32_t d = 0; d < head_dim; d += 16) {
    store(values + d, load(value + d));
    T column[16];
    store(column, load(key + d));
    for (uint32_t i = 0; i < 16; i++) keys[(d + i) * 16 + slot] = column[i];
  }
}

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
