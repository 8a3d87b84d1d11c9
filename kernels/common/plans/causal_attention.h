// Plans of causal_attention and its backward pass.
#pragma once

#include <initializer_list>

#include "checks.h"

namespace apiq {

struct CausalAttentionShape {
  const float* q;            // [n_seqs * seq_len, n_heads, head_dim]
  const float* k;            // [n_seqs * seq_len, n_kv_heads, head_dim]
  const float* v;            // [n_seqs * seq_len, n_kv_heads, head_dim]
  const int32_t* row_start;  // [n_seqs * seq_len] or null; data: kernels check it when they run
  uint32_t n_seqs;
  uint32_t seq_len;
  uint32_t n_heads;
  uint32_t n_kv_heads;
  uint32_t head_dim;
  uint32_t window;  // 0: none
  float scale;

  static constexpr uint32_t max_head_dim = 256;

  uint64_t rows() const { return uint64_t{n_seqs} * seq_len; }
  uint64_t q_count() const { return rows() * n_heads * head_dim; }
  uint64_t kv_count() const { return rows() * n_kv_heads * head_dim; }
};

struct CausalAttentionPlan {
  CausalAttentionShape shape;
  float* y;    // as q
  float* lse;  // [n_seqs * seq_len, n_heads]
};

struct CausalAttentionBackwardPlan {
  CausalAttentionShape shape;
  const float* y;
  const float* lse;
  const float* dy;
  float* dq;
  float* dk;
  float* dv;
};

struct FloatRange {
  const float* data;
  uint64_t count;
  const char* name;
};

// Every output lies apart from every input and from the outputs after it.
inline void require_all_apart(std::initializer_list<FloatRange> outputs, std::initializer_list<FloatRange> inputs) {
  const auto apart = [](const FloatRange& a, const FloatRange& b) {
    if (b.data == nullptr) return;
    const std::string names = std::string(a.name) + " and " + b.name;
    require_apart(a.data, a.count * sizeof(float), b.data, b.count * sizeof(float), names.c_str());
  };
  for (const FloatRange* output = outputs.begin(); output != outputs.end(); output++) {
    for (const FloatRange& input : inputs) apart(*output, input);
    for (const FloatRange* other = output + 1; other != outputs.end(); other++) apart(*output, *other);
  }
}

template <class Args>
CausalAttentionShape plan_causal_shape(ContextBase& context, const Args& args) {
  require_positive(args.n_seqs, "n_seqs");
  require_positive(args.seq_len, "seq_len");
  require_positive(args.n_heads, "n_heads");
  require_positive(args.n_kv_heads, "n_kv_heads");
  require_finite(args.scale, "scale");
  require_zero(args.reserved, "reserved");
  APIQ_REQUIRE(args.head_dim > 0 && args.head_dim % 8 == 0 && args.head_dim <= CausalAttentionShape::max_head_dim,
               "head_dim: received %u, expected a multiple of 8 up to %u", args.head_dim, CausalAttentionShape::max_head_dim);
  APIQ_REQUIRE(args.n_heads % args.n_kv_heads == 0, "n_heads: received %u, expected a multiple of n_kv_heads = %u", args.n_heads,
               args.n_kv_heads);
  APIQ_REQUIRE(args.seq_len <= INT32_MAX, "seq_len: received %u, expected at most %d", args.seq_len, INT32_MAX);
  const uint64_t rows = uint64_t{args.n_seqs} * args.seq_len;
  const uint64_t q_count = checked_mul(rows, uint64_t{args.n_heads} * args.head_dim, "q");
  const uint64_t kv_count = checked_mul(rows, uint64_t{args.n_kv_heads} * args.head_dim, "k");
  return {context.in<float>(args.q, q_count, "q"),
          context.in<float>(args.k, kv_count, "k"),
          context.in<float>(args.v, kv_count, "v"),
          context.in_optional<int32_t>(args.row_start, rows, "row_start"),
          args.n_seqs,
          args.seq_len,
          args.n_heads,
          args.n_kv_heads,
          args.head_dim,
          args.window,
          args.scale};
}

inline FloatRange starts_range(const CausalAttentionShape& shape) {
  return {reinterpret_cast<const float*>(shape.row_start), shape.rows(), "row_start"};
}

inline CausalAttentionPlan plan(ContextBase& context, const apiq_causal_attention_args& args) {
  const CausalAttentionShape shape = plan_causal_shape(context, args);
  const uint64_t lse_count = shape.rows() * shape.n_heads;
  const CausalAttentionPlan plan{shape, context.out<float>(args.y, shape.q_count(), "y"),
                                 context.out<float>(args.lse, lse_count, "lse")};
  require_all_apart({{plan.y, shape.q_count(), "y"}, {plan.lse, lse_count, "lse"}},
                    {{shape.q, shape.q_count(), "q"},
                     {shape.k, shape.kv_count(), "k"},
                     {shape.v, shape.kv_count(), "v"},
                     starts_range(shape)});
  return plan;
}

inline CausalAttentionBackwardPlan plan(ContextBase& context, const apiq_causal_attention_backward_args& args) {
  const CausalAttentionShape shape = plan_causal_shape(context, args);
  const uint64_t q_count = shape.q_count();
  const uint64_t kv_count = shape.kv_count();
  const uint64_t lse_count = shape.rows() * shape.n_heads;
  const CausalAttentionBackwardPlan plan{shape,
                                         context.in<float>(args.y, q_count, "y"),
                                         context.in<float>(args.lse, lse_count, "lse"),
                                         context.in<float>(args.dy, q_count, "dy"),
                                         context.out<float>(args.dq, q_count, "dq"),
                                         context.out<float>(args.dk, kv_count, "dk"),
                                         context.out<float>(args.dv, kv_count, "dv")};
  require_all_apart({{plan.dq, q_count, "dq"}, {plan.dk, kv_count, "dk"}, {plan.dv, kv_count, "dv"}},
                    {{shape.q, q_count, "q"},
                     {shape.k, kv_count, "k"},
                     {shape.v, kv_count, "v"},
                     starts_range(shape),
                     {plan.y, q_count, "y"},
                     {plan.lse, lse_count, "lse"},
                     {plan.dy, q_count, "dy"}});
  return plan;
}

}  // namespace apiq
