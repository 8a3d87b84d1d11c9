// Backward kernels of the decoder block.
#pragma once

namespace apiq::cpu::APIQ_ISA {
namespace {

// One row. dx = s g - (s^3 mean(g x)) x, with both sums in double precision.
void rms_norm_backward(const float* x, const float* weight, const float* dy, float* dx, uint32_t cols, float eps,
                       bool accumulate) {
  Double16 squares = zero_sums();
  Double16 products = zero_sums();
  each16(cols, [&](uint64_t i, auto lanes) {
    const Vec16 v = load(x + i, lanes);
    squares = add_product(squares, v, v);
    products = add_product(products, mul(load(dy + i, lanes), load(weight + i, lanes)), v);
  });
  const double scale = 1.0 / __builtin_sqrt(sum(squares) / cols + static_cast<double>(eps));
  const Vec16 s = broadcast(static_cast<float>(scale));
  const Vec16 pull = broadcast(static_cast<float>(-scale * scale * scale * (sum(products) / cols)));
  each16(cols, [&](uint64_t i, auto lanes) {
    const Vec16 g = mul(load(dy + i, lanes), load(weight + i, lanes));
    const Vec16 d = fma(pull, load(x + i, lanes), mul(s, g));
    store(dx + i, accumulate ? add(load(dx + i, lanes), d) : d, lanes);
  });
}

void rms_norm_weight_backward(const float* x, const float* dy, double* sums, uint32_t rows, uint32_t cols, float eps) {
  for (uint32_t row = 0; row < rows; row++, x += cols, dy += cols) {
    Double16 squares = zero_sums();
    each16(cols, [&](uint64_t i, auto lanes) {
      const Vec16 v = load(x + i, lanes);
      squares = add_product(squares, v, v);
    });
    const double scale = 1.0 / __builtin_sqrt(sum(squares) / cols + static_cast<double>(eps));
    const Vec16 s = broadcast(static_cast<float>(scale));
    each16(cols, [&](uint64_t i, auto lanes) {
      store_sums(sums + i, add_product(load_sums(sums + i), mul(load(x + i, lanes), s), load(dy + i, lanes)));
    });
  }
}

// silu' = s (1 + gate (1 - s))
void silu_mul_backward(const float* gate, const float* up, const float* dy, float* dgate, float* dup, uint64_t count) {
  const Vec16 one = broadcast(1.0f);
  each16(count, [&](uint64_t i, auto lanes) {
    const Vec16 g = load(gate + i, lanes);
    const Vec16 u = load(up + i, lanes);
    const Vec16 d = load(dy + i, lanes);
    const Vec16 s = sigmoid(g);
    const Vec16 slope = mul(s, fma(g, sub(one, s), one));
    store(dup + i, mul(d, mul(g, s)), lanes);
    store(dgate + i, mul(mul(d, u), slope), lanes);
  });
}

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
