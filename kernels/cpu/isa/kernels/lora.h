// y += scale * (x A^T) B^T in two steps, and then y = factor * y + shift where there are factors [2, out]. Rows that share an
// adapter are taken together, so that its matrices are loaded once for several of them; no sum's order depends on that. With one row
// an adapter all time goes into fetching matrices whose rows are too short for the processor to see where reading goes on: while one
// is multiplied, the same part of the `next` is fetched.
#pragma once

namespace apiq::cpu::APIQ_ISA {
namespace {

// Elements from a matrix to the one after it; 0 where there is none.
template <class T>
int64_t distance(const void* matrix, const void* next) {
  if (next == nullptr) return 0;
  return (reinterpret_cast<intptr_t>(next) - reinterpret_cast<intptr_t>(matrix)) / static_cast<int64_t>(sizeof(T));
}

// The place may lie outside of the pool: fetching is a hint, which never faults.
template <class T>
[[gnu::always_inline]] inline void fetch(const T* part, int64_t ahead) {
  const intptr_t place = reinterpret_cast<intptr_t>(part) + ahead * static_cast<int64_t>(sizeof(T));
  __builtin_prefetch(reinterpret_cast<const void*>(place), 0, 2);
}

// R rows times K ranks: lanes run along `in`. `next` is `ahead` elements behind `a`.
template <uint32_t R, uint32_t K, class T>
void lora_down_tile(const float* x, uint32_t in_features, const uint32_t* rows, const T* a, int64_t ahead, float* h,
                    uint64_t h_stride) {
  const float* row[R];
  for (uint32_t r = 0; r < R; r++) row[r] = x + uint64_t{rows[r]} * in_features;
  Vec16 sums[R][K];
  for (auto& of_row : sums) {
    for (Vec16& s : of_row) s = zero();
  }
  const uint32_t whole = in_features / 16 * 16;
  for (uint32_t i = 0; i < whole; i += 16) {
    Vec16 inputs[R];
    for (uint32_t r = 0; r < R; r++) inputs[r] = load(row[r] + i);
    for (uint32_t k = 0; k < K; k++) {
      const T* part = a + uint64_t{k} * in_features + i;
      fetch(part, ahead);
      const Vec16 weights = load(part);
      for (uint32_t r = 0; r < R; r++) sums[r][k] = fma(inputs[r], weights, sums[r][k]);
    }
  }
  if (whole < in_features) {
    const uint32_t rest = in_features - whole;
    for (uint32_t k = 0; k < K; k++) {
      const Vec16 weights = load_n(a + uint64_t{k} * in_features + whole, rest);
      for (uint32_t r = 0; r < R; r++) sums[r][k] = fma(load_n(row[r] + whole, rest), weights, sums[r][k]);
    }
  }
  for (uint32_t r = 0; r < R; r++) {
    for (uint32_t k = 0; k < K; k++) h[rows[r] * h_stride + k] = sum(sums[r][k]);
  }
}

template <uint32_t R, uint32_t K, class T>
void lora_down_ranks(const float* x, uint32_t in_features, const uint32_t* rows, const T* a, int64_t ahead, uint32_t n_ranks,
                     float* h, uint64_t h_stride) {
  uint32_t k = 0;
  for (; k + K <= n_ranks; k += K) lora_down_tile<R, K>(x, in_features, rows, a + uint64_t{k} * in_features, ahead, h + k, h_stride);
  for (; k < n_ranks; k++) lora_down_tile<R, 1>(x, in_features, rows, a + uint64_t{k} * in_features, ahead, h + k, h_stride);
}

template <class T>
void lora_down(const float* x, uint32_t in_features, LoraRows rows, const void* a, const void* next, uint32_t n_ranks, float* h,
               uint64_t h_stride) {
  constexpr uint32_t R = accumulators >= 16 ? 4 : 2;
  const T* matrix = static_cast<const T*>(a);
  const int64_t ahead = distance<T>(a, next);
  uint32_t r = 0;
  for (; r + R <= rows.count; r += R) {
    lora_down_ranks<R, accumulators / R>(x, in_features, rows.index + r, matrix, ahead, n_ranks, h, h_stride);
  }
  for (; r < rows.count; r++) lora_down_ranks<1, 4>(x, in_features, rows.index + r, matrix, ahead, n_ranks, h, h_stride);
}

// R rows times V vectors of outputs: lanes run along `out`. `n` is how many lanes the last vector has.
template <uint32_t R, uint32_t V, class T>
void lora_up_tile(const float* h, uint64_t h_stride, const uint32_t* rows, const T* b, int64_t ahead, uint32_t rank,
                  uint32_t out_features, float scale, const float* factors, float* y, uint32_t n = 16) {
  Vec16 sums[R][V];
  for (auto& of_row : sums) {
    for (Vec16& s : of_row) s = zero();
  }
  for (uint32_t k = 0; k < rank; k++) {
    for (uint32_t v = 0; v < V; v++) {
      const T* weights = b + uint64_t{k} * out_features + v * 16;
      fetch(weights, ahead);
      const Vec16 w = V == 1 && n < 16 ? load_n(weights, n) : load(weights);
      for (uint32_t r = 0; r < R; r++) sums[r][v] = fma(broadcast(h[rows[r] * h_stride + k]), w, sums[r][v]);
    }
  }
  for (uint32_t r = 0; r < R; r++) {
    for (uint32_t v = 0; v < V; v++) {
      float* target = y + uint64_t{rows[r]} * out_features + v * 16;
      const float* factor = factors == nullptr ? nullptr : factors + v * 16;
      if (V == 1 && n < 16) {
        Vec16 sum = fma(broadcast(scale), sums[r][v], load_n(target, n));
        if (factor != nullptr) sum = fma(load_n(factor, n), sum, load_n(factor + out_features, n));
        store_n(target, sum, n);
      } else {
        Vec16 sum = fma(broadcast(scale), sums[r][v], load(target));
        if (factor != nullptr) sum = fma(load(factor), sum, load(factor + out_features));
        store(target, sum);
      }
    }
  }
}

template <uint32_t R, uint32_t V, class T>
void lora_up_columns(const float* h, uint64_t h_stride, const uint32_t* rows, const T* b, int64_t ahead, uint32_t rank,
                     uint32_t out_features, uint32_t first, uint32_t end, float scale, const float* factors, float* y) {
  const auto at = [&](uint32_t o) { return factors == nullptr ? nullptr : factors + o; };
  uint32_t o = first;
  for (; o + 16 * V <= end; o += 16 * V) {
    lora_up_tile<R, V>(h, h_stride, rows, b + o, ahead, rank, out_features, scale, at(o), y + o);
  }
  for (; o < end; o += 16) {
    lora_up_tile<R, 1>(h, h_stride, rows, b + o, ahead, rank, out_features, scale, at(o), y + o, end - o < 16 ? end - o : 16);
  }
}

template <class T>
void lora_up(const float* h, uint64_t h_stride, LoraRows rows, const void* b, const void* next, uint32_t rank, uint32_t out_features,
                    uint32_t first, uint32_t end, float scale, const float* factors, float* y) {
  constexpr uint32_t R = accumulators >= 16 ? 4 : 2;
  constexpr uint32_t alone = accumulators >= 16 ? 8 : 4;
  const T* matrix = static_cast<const T*>(b);
  const int64_t ahead = distance<T>(b, next);
  uint32_t r = 0;
  for (; r + R <= rows.count; r += R) {
    lora_up_columns<R, accumulators / R>(h, h_stride, rows.index + r, matrix, ahead, rank, out_features, first, end, scale, factors,
                                         y);
  }
  for (; r < rows.count; r++) {
    lora_up_columns<1, alone>(h, h_stride, rows.index + r, matrix, ahead, rank, out_features, first, end, scale, factors, y);
  }
}

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
