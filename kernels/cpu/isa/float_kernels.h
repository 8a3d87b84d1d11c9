// The float kernels of one instruction set. Each is written once, in kernels/, over the 16 lanes of Vec16, and compiled three times;
// all sets compute the same bits. Kernels check nothing: what they are given lies in bounds.
#pragma once

#include <cstdint>

#include "../core/isa.h"

namespace apiq::cpu {

// One query head of one row: attends to positions [begin, end), begin < end.
struct AttentionQuery {
  const float* q;  // [head_dim]
  float* y;        // [head_dim]
  uint32_t begin;
  uint32_t end;
};

// Queries of one sequence that read one key/value head.
struct AttentionTask {
  const void* k;  // the head's part of block 0: [head_dim, 16]
  const void* v;  // the head's part of block 0: [16, head_dim]
  const int32_t* blocks;  // the sequence's block ids, position / 16 -> block
  uint64_t block_stride;  // elements from a block to the next
  uint32_t head_dim;
  float scale;
  const AttentionQuery* queries;
  uint32_t n_queries;
  float* scratch;  // attention_scratch_floats(n_queries, head_dim)
};

constexpr uint32_t attention_segment = 256;

constexpr uint64_t attention_scratch_floats(uint64_t n_queries, uint64_t head_dim) {
  return n_queries * (attention_segment + head_dim + 2);
}

// Rows of a batch that use one adapter.
struct LoraRows {
  const uint32_t* index;
  uint32_t count;
};

struct LogitStatistics {
  float maximum;
  double sum;  // of exp(logit - maximum); a NaN if a logit is a NaN or +infinity, or if all are -infinity
};

struct FloatKernels {
  // y[i] = table[i], as float32. Index: dtype of the table.
  void (*widen[3])(const void* table, float* y, uint64_t count);

  // Sum of squares in 16 lanes and a tree, then x * (1 / sqrt(mean + eps)) * weight.
  void (*rms_norm)(const float* x, const float* weight, float* y, uint32_t cols, float eps);

  // One row: x [n_heads, head_dim], table [2, head_dim / 2]. inverse: by the negative angles.
  void (*rotary)(float* x, const float* table, uint32_t n_heads, uint32_t head_dim, bool inverse);

  // One row and head into its block: k [head_dim, 16], v [16, head_dim]. Index: dtype of the cache.
  void (*kv_store[2])(const float* key, const float* value, void* k, void* v, uint32_t slot, uint32_t head_dim);

  // Index: dtype of the cache.
  void (*attention[2])(const AttentionTask& task);

  // h[r, k] = x[r] . a[k] for k < n_ranks; 16 lanes along `in` and a tree. h's rows are h_stride apart. `next`, like `a`, will be used
  // after it; null: nothing is known. Index: dtype of a.
  void (*lora_down[2])(const float* x, uint32_t in_features, LoraRows rows, const void* a, const void* next, uint32_t n_ranks, float* h,
                       uint64_t h_stride);

  // y[r, o] = fma(scale, sum over ranks, in order, of h[r, k] * b[k, o], y[r, o]) for o in [first, end). `next` as above. Index: dtype
  // of b.
  // With factors [2, out_features], then y[r, o] = fma(factors[0, o], y[r, o], factors[1, o]).
  void (*lora_up[2])(const float* h, uint64_t h_stride, LoraRows rows, const void* b, const void* next, uint32_t rank,
                     uint32_t out_features, uint32_t first, uint32_t end, float scale, const float* factors, float* y);

  void (*silu_mul)(const float* gate, const float* up, float* y, uint64_t count);
  void (*add)(const float* a, const float* b, float* y, uint64_t count);

  LogitStatistics (*statistics)(const float* logits, uint64_t count);
  // The largest logit's index, the lowest of equals.
  uint32_t (*largest)(const float* logits, uint64_t count);
  // The `n` largest in order of (logit descending, index ascending), n <= count.
  void (*top)(const float* logits, uint64_t count, uint32_t n, int32_t* index, float* value);
  // w[i] = exp((logits[i] - maximum) / temperature)
  void (*weigh)(const float* logits, uint64_t count, float maximum, float temperature, float* w);
};

const FloatKernels& float_kernels(Isa isa);

namespace scalar { extern const FloatKernels float_kernels; }
namespace avx2 { extern const FloatKernels float_kernels; }
namespace avx512 { extern const FloatKernels float_kernels; }

}  // namespace apiq::cpu
