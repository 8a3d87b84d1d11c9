// Loops of gptq_quantize: 16 rows to a Vec16, so that a column of a group is quantized for all rows at once.
#pragma once

namespace apiq::cpu::APIQ_ISA {
namespace {

// To the nearest integer, ties to even; |v| is at most 2^22.
inline Vec16 round_small(Vec16 v) {
  const Vec16 shift = broadcast(12582912.0f);
  return sub(add(v, shift), shift);
}

inline Vec16 clamp(Vec16 v, float low, float high) { return min(max(v, broadcast(low)), broadcast(high)); }

void gptq_range(const float* w, uint32_t columns, uint32_t bits, float* scale, float* zero_point) {
  const float levels = static_cast<float>((1u << bits) - 1);
  for (uint32_t lane = 0; lane < gptq_rows; lane += 16) {
    Vec16 low = zero();
    Vec16 high = zero();
    for (uint32_t i = 0; i < columns; i++) {
      const Vec16 v = load(w + i * gptq_rows + lane);
      low = min(low, v);
      high = max(high, v);
    }
    f16 rounded[16];
    store(rounded, clamp(div(sub(high, low), broadcast(levels)), 1e-5f, 1e4f));
    const Vec16 s = load(rounded);
    store(scale + lane, s);
    store(zero_point + lane, clamp(round_small(clamp(div(sub(zero(), low), s), 0.0f, 1e4f)), 0.0f, levels));
  }
}

void gptq_columns(const GptqBlock& block, uint32_t first, uint32_t end, uint32_t columns) {
  const float levels = static_cast<float>((1u << block.bits) - 1);
  for (uint32_t lane = 0; lane < gptq_rows; lane += 16) {
    const Vec16 scale = load(block.scale + lane);
    const Vec16 zero_point = load(block.zero + lane);
    for (uint32_t i = first; i < end; i++) {
      const float* u = block.factor + i * block.factor_stride;
      float* w = block.w + uint64_t{i} * gptq_rows + lane;
      const Vec16 v = load(w);
      const Vec16 q = clamp(add(round_small(clamp(div(v, scale), -1024.0f, 1024.0f)), zero_point), 0.0f, levels);
      const Vec16 y = mul(scale, sub(q, zero_point));
      const Vec16 error = div(sub(v, y), broadcast(u[i]));
      const Vec16 step = sub(zero(), error);
      store(w, y);
      store(block.errors + uint64_t{i} * gptq_rows + lane, error);
      float codes[16];
      store(codes, q);
      for (uint32_t r = 0; r < 16; r++) block.q[uint64_t{i} * gptq_rows + lane + r] = static_cast<uint8_t>(codes[r]);
      for (uint32_t j = i + 1; j < columns; j++) {
        float* other = block.w + uint64_t{j} * gptq_rows + lane;
        store(other, fma(step, broadcast(u[j]), load(other)));
      }
    }
  }
}

constexpr uint32_t update_rows = accumulators < 8 ? 4 : 8;

template <uint32_t R>
[[gnu::always_inline]] inline void update_tile(const float* errors, uint32_t depth, const float* strip, float* w, uint64_t w_stride,
                                               uint32_t n) {
  Vec16 sum[R];
  for (uint32_t r = 0; r < R; r++) sum[r] = n == 16 ? load(w + r * w_stride) : load_n(w + r * w_stride, n);
  for (uint32_t i = 0; i < depth; i++) {
    const Vec16 u = load(strip + i * 16);
    for (uint32_t r = 0; r < R; r++) sum[r] = fma(broadcast(-errors[i * gptq_rows + r]), u, sum[r]);
  }
  for (uint32_t r = 0; r < R; r++) {
    if (n == 16) store(w + r * w_stride, sum[r]);
    else store_n(w + r * w_stride, sum[r], n);
  }
}

void gptq_update(const float* errors, uint32_t depth, const float* u, uint64_t u_stride, float* w, uint64_t w_stride, uint32_t rows,
                 uint64_t n, float* strip) {
  for (uint64_t j = 0; j < n; j += 16) {
    const uint32_t width = n - j < 16 ? static_cast<uint32_t>(n - j) : 16;
    for (uint32_t i = 0; i < depth; i++) {
      const float* row = u + i * u_stride + j;
      store(strip + i * 16, width == 16 ? load(row) : load_n(row, width));
    }
    uint32_t r = 0;
    for (; r + update_rows <= rows; r += update_rows) {
      update_tile<update_rows>(errors + r, depth, strip, w + r * w_stride + j, w_stride, width);
    }
    for (; r < rows; r++) update_tile<1>(errors + r, depth, strip, w + r * w_stride + j, w_stride, width);
  }
}

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
