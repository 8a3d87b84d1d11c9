// Kernels of a matrix's columns and rows.
#pragma once

namespace apiq::cpu::APIQ_ISA {
namespace {

void multiply(const float* x, const float* scale, float* y, uint64_t count) {
  each16(count, [&](uint64_t i, auto lanes) { store(y + i, mul(load(x + i, lanes), load(scale + i, lanes)), lanes); });
}

// Four rows at a time: the sums, which lie in the first-level cache, are then read and written once for four reads of each matrix.
void dot_columns(const float* a, const float* b, double* sums, uint32_t rows, uint64_t stride, uint64_t cols) {
  constexpr uint32_t together = 4;
  for (uint32_t row = 0; row < rows; row += together) {
    const uint32_t n = rows - row < together ? rows - row : together;
    const uint64_t first = row * stride;
    each16(cols, [&](uint64_t c, auto lanes) {
      Double16 s = load_sums(sums + c);
      for (uint32_t r = 0; r < n; r++) {
        const uint64_t at = first + r * stride + c;
        s = b == nullptr ? add_to(s, load(a + at, lanes)) : add_product(s, load(a + at, lanes), load(b + at, lanes));
      }
      store_sums(sums + c, s);
    });
  }
}

void scale_rows(const float* x, const float* scale, float* y, uint64_t rows, uint64_t cols) {
  for (uint64_t row = 0; row < rows; row++) {
    const Vec16 factor = broadcast(scale[row]);
    const uint64_t at = row * cols;
    each16(cols, [&](uint64_t c, auto lanes) { store(y + at + c, mul(load(x + at + c, lanes), factor), lanes); });
  }
}

// Four chains of sums hide the latency of an addition.
double dot(const float* a, const float* b, uint64_t count) {
  Double16 sums[4] = {zero_sums(), zero_sums(), zero_sums(), zero_sums()};
  uint64_t i = 0;
  for (; i + 64 <= count; i += 64) {
    for (uint32_t chain = 0; chain < 4; chain++) {
      const uint64_t at = i + chain * 16;
      sums[chain] = add_product(sums[chain], load(a + at), load(b + at));
    }
  }
  each16(count - i, [&](uint64_t rest, auto lanes) {
    sums[0] = add_product(sums[0], load(a + i + rest, lanes), load(b + i + rest, lanes));
  });
  return (sum(sums[0]) + sum(sums[1])) + (sum(sums[2]) + sum(sums[3]));
}

double sum_squares(const float* x, uint64_t count) { return dot(x, x, count); }

void dot_rows(const float* a, const float* b, float* y, uint64_t rows, uint64_t cols, bool accumulate) {
  for (uint64_t row = 0; row < rows; row++) {
    const double before = accumulate ? static_cast<double>(y[row]) : 0.0;
    y[row] = static_cast<float>(before + dot(a + row * cols, b + row * cols, cols));
  }
}

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
