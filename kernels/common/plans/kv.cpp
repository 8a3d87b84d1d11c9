#include "kv.h"

namespace apiq {

KvPlan plan_kv(ContextBase& context, const apiq_kv_layout& kv, bool write) {
  APIQ_REQUIRE(kv.dtype == APIQ_F32 || kv.dtype == APIQ_F16, "kv.dtype: received %u, expected APIQ_F32 or APIQ_F16", kv.dtype);
  APIQ_REQUIRE(kv.block_size == KvPlan::block_size, "kv.block_size: received %u, expected %u", kv.block_size, KvPlan::block_size);
  APIQ_REQUIRE(kv.head_dim > 0 && kv.head_dim % 16 == 0 && kv.head_dim <= KvPlan::max_head_dim,
               "kv.head_dim: received %u, expected a multiple of 16 up to %u", kv.head_dim, KvPlan::max_head_dim);
  require_positive(kv.n_blocks, "kv.n_blocks");
  require_positive(kv.n_kv_heads, "kv.n_kv_heads");
  require_positive(kv.n_seqs, "kv.n_seqs");
  require_positive(kv.max_blocks, "kv.max_blocks");
  require_positive(kv.rows, "kv.rows");
  const uint64_t element = kv.dtype == APIQ_F32 ? sizeof(float) : sizeof(uint16_t);
  uint64_t bytes = checked_mul(uint64_t{kv.n_blocks} * kv.n_kv_heads, uint64_t{kv.head_dim} * kv.block_size, "kv.k");
  bytes = checked_mul(bytes, element, "kv.k");
  const uint64_t table_count = uint64_t{kv.n_seqs} * kv.max_blocks;

  KvPlan plan{};
  const auto cache = [&](const apiq_ref& ref, const char* name) {
    return write ? context.out<std::byte>(ref, bytes, name, element)
                 : const_cast<std::byte*>(context.in<std::byte>(ref, bytes, name, element));
  };
  plan.k = cache(kv.k, "kv.k");
  plan.v = cache(kv.v, "kv.v");
  plan.block_tables = context.in<int32_t>(kv.block_tables, table_count, "kv.block_tables");
  plan.row_seq = context.in<int32_t>(kv.row_seq, kv.rows, "kv.row_seq");
  plan.row_pos = context.in<int32_t>(kv.row_pos, kv.rows, "kv.row_pos");
  plan.dtype = kv.dtype;
  plan.n_blocks = kv.n_blocks;
  plan.n_kv_heads = kv.n_kv_heads;
  plan.head_dim = kv.head_dim;
  plan.n_seqs = kv.n_seqs;
  plan.max_blocks = kv.max_blocks;
  plan.rows = kv.rows;
  plan.cache_bytes = bytes;
  require_apart(plan.k, bytes, plan.v, bytes, "kv.k and kv.v");
  return plan;
}

KvStorePlan plan(ContextBase& context, const apiq_kv_store_args& args) {
  const KvPlan kv = plan_kv(context, args.kv, true);
  const uint64_t count = checked_mul(uint64_t{kv.rows} * kv.n_kv_heads, kv.head_dim, "keys");
  const KvStorePlan plan{kv, context.in<float>(args.keys, count, "keys"), context.in<float>(args.values, count, "values")};
  for (const std::byte* cache : {kv.k, kv.v}) {
    require_apart(cache, kv.cache_bytes, plan.keys, count * sizeof(float), "the cache and keys");
    require_apart(cache, kv.cache_bytes, plan.values, count * sizeof(float), "the cache and values");
    require_apart(cache, kv.cache_bytes, kv.block_tables, uint64_t{kv.n_seqs} * kv.max_blocks * sizeof(int32_t),
                  "the cache and kv.block_tables");
    require_apart(cache, kv.cache_bytes, kv.row_seq, kv.rows * sizeof(int32_t), "the cache and kv.row_seq");
    require_apart(cache, kv.cache_bytes, kv.row_pos, kv.rows * sizeof(int32_t), "the cache and kv.row_pos");
  }
  return plan;
}

AttentionPlan plan(ContextBase& context, const apiq_attention_args& args) {
  const KvPlan kv = plan_kv(context, args.kv, false);
  require_positive(args.n_heads, "n_heads");
  require_finite(args.scale, "scale");
  require_zero(args.reserved, "reserved");
  APIQ_REQUIRE(args.n_heads % kv.n_kv_heads == 0, "n_heads: received %u, expected a multiple of n_kv_heads = %u", args.n_heads,
               kv.n_kv_heads);
  const uint64_t count = checked_mul(uint64_t{kv.rows} * args.n_heads, kv.head_dim, "q");
  const AttentionPlan plan{kv, context.in<float>(args.q, count, "q"), context.out<float>(args.y, count, "y"), args.n_heads, args.window,
                           args.scale};
  const uint64_t bytes = count * sizeof(float);
  require_apart(plan.y, bytes, plan.q, bytes, "y and q");
  require_apart(plan.y, bytes, kv.k, kv.cache_bytes, "y and kv.k");
  require_apart(plan.y, bytes, kv.v, kv.cache_bytes, "y and kv.v");
  require_apart(plan.y, bytes, kv.block_tables, uint64_t{kv.n_seqs} * kv.max_blocks * sizeof(int32_t), "y and kv.block_tables");
  require_apart(plan.y, bytes, kv.row_seq, kv.rows * sizeof(int32_t), "y and kv.row_seq");
  require_apart(plan.y, bytes, kv.row_pos, kv.rows * sizeof(int32_t), "y and kv.row_pos");
  return plan;
}

}  // namespace apiq
