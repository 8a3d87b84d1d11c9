// apiq_attention: a block per row and head, online softmax (Milakov and Gimelshein, arXiv 1805.02867) over tiles of 128 positions.
//
// Tiles start at multiples of 128 of the sequence, whatever the chunk the row came in, and so the order of every sum is a function of
// the row's position alone: in a tile, scores by dimension, the softmax's sum by butterfly and warp, the values by position.
#include "../launch.h"
#include "paged.cuh"

namespace apiq::cuda {
namespace {

constexpr uint32_t attention_warps = 4;
constexpr uint32_t attention_threads = attention_warps * warp_threads;
constexpr uint32_t tile_positions = attention_threads;  // a thread per position for the scores
constexpr uint32_t tile_blocks = tile_positions / KvPlan::block_size;
constexpr uint32_t dims_per_thread = KvPlan::max_head_dim / attention_threads;

template <class Element>
struct AttentionArgs {
  PagedCache<const decltype(Element::stored)> cache;
  Global<const float> q;  // [rows, n_heads, head_dim]
  Global<float> y;
  uint32_t n_heads;
  uint32_t window;
  float scale;
};

// The maximum or the sum over the block, the same bits for every thread; `lanes` holds one value a warp.
APIQ_DEVICE float block_max(float value, const Shared<float>& lanes) {
  value = warp_max(value);
  if (thread_index() % warp_threads == 0) lanes.store(thread_index() / warp_threads, value);
  sync_block();
  float result = lanes.load(0);
  for (uint32_t warp = 1; warp < attention_warps; warp++) result = larger(result, lanes.load(warp));
  return result;
}
APIQ_DEVICE float block_sum(float value, const Shared<float>& lanes) {
  value = warp_sum(value);
  if (thread_index() % warp_threads == 0) lanes.store(thread_index() / warp_threads, value);
  sync_block();
  float result = lanes.load(0);
  for (uint32_t warp = 1; warp < attention_warps; warp++) result += lanes.load(warp);
  return result;
}

// Grid: n_heads blocks for each row.
template <class Element>
APIQ_KERNEL(attention_threads) attention_kernel(AttentionArgs<Element> a) {
  APIQ_SHARED(float, query, KvPlan::max_head_dim);
  APIQ_SHARED(int32_t, blocks, tile_blocks);
  APIQ_SHARED(float, weights, tile_positions);
  APIQ_SHARED(float, warp_maxima, attention_warps);
  APIQ_SHARED(float, warp_sums, attention_warps);
  const uint32_t row = block_index_x() / a.n_heads;
  const uint32_t head = block_index_x() % a.n_heads;
  const uint32_t head_dim = a.cache.head_dim;
  const uint32_t kv_head = head / (a.n_heads / a.cache.n_kv_heads);
  const uint64_t row_first = uint64_t{block_index_x()} * head_dim;
  const uint32_t thread = thread_index();

  const uint32_t position = a.cache.position(row);
  if (position == no_row) {
    for (uint32_t d = thread; d < head_dim; d += attention_threads) a.y.store(row_first + d, 0.0f);
    return;
  }
  const uint32_t first = a.window != 0 && position >= a.window ? position - a.window + 1 : 0;
  for (uint32_t d = thread; d < head_dim; d += attention_threads) query.store(d, a.q.load(row_first + d) * a.scale);

  float maximum = negative_infinity();
  float total = 0.0f;
  float sums[dims_per_thread] = {};
  for (uint32_t tile = first / tile_positions; tile <= position / tile_positions; tile++) {
    const uint32_t start = tile * tile_positions;
    const uint32_t begin = first > start ? first - start : 0;  // the positions that count, within the tile
    const uint32_t end = position - start < tile_positions ? position - start + 1 : tile_positions;
    if (thread < tile_blocks) {
      const bool wanted = thread * KvPlan::block_size < end && (thread + 1) * KvPlan::block_size > begin;
      blocks.store(thread, wanted ? a.cache.block(row, tile * tile_blocks + thread) : -1);
    }
    sync_block();

    const int32_t own_block = blocks.load(thread / KvPlan::block_size);
    float score = negative_infinity();
    if (thread >= begin && thread < end && own_block >= 0) {
      const uint64_t key = a.cache.head(own_block, kv_head) + thread % KvPlan::block_size;
      score = 0.0f;
      for (uint32_t d = 0; d < head_dim; d++) {
        score = fma(query.load(d), Element::value(a.cache.k.load(key + d * KvPlan::block_size)), score);
      }
    }
    const float tile_maximum = larger(maximum, block_max(score, warp_maxima));
    const bool any = tile_maximum != negative_infinity();  // none: every block of the tile was refused
    const float shrink = any ? exponential(maximum - tile_maximum) : 1.0f;
    const float weight = any ? exponential(score - tile_maximum) : 0.0f;
    weights.store(thread, weight);
    total = fma(total, shrink, block_sum(weight, warp_sums));
    maximum = tile_maximum;

    APIQ_UNROLL
    for (uint32_t i = 0; i < dims_per_thread; i++) {
      const uint32_t d = thread + i * attention_threads;
      if (d >= head_dim) break;
      sums[i] *= shrink;
      for (uint32_t p = begin; p < end; p++) {
        const int32_t block = blocks.load(p / KvPlan::block_size);
        if (block < 0) continue;
        const uint64_t value = a.cache.head(block, kv_head) + uint64_t{p % KvPlan::block_size} * head_dim + d;
        sums[i] = fma(weights.load(p), Element::value(a.cache.v.load(value)), sums[i]);
      }
    }
    sync_block();  // the next tile overwrites the blocks and the weights
  }
  APIQ_UNROLL
  for (uint32_t i = 0; i < dims_per_thread; i++) {
    const uint32_t d = thread + i * attention_threads;
    if (d < head_dim) a.y.store(row_first + d, total > 0.0f ? sums[i] / total : 0.0f);
  }
}

template <class Element>
void launch_attention(Context& context, const AttentionPlan& plan) {
  const uint64_t count = uint64_t{plan.kv.rows} * plan.n_heads * plan.kv.head_dim;
  AttentionArgs<Element> args;
  args.cache = paged_cache<const decltype(Element::stored)>(plan.kv, context.fault_word());
  args.q = {plan.q, count};
  args.y = {plan.y, count};
  args.n_heads = plan.n_heads;
  args.window = plan.window;
  args.scale = plan.scale;
  context.stream().launch(attention_kernel<Element>, line_of_blocks(uint64_t{plan.kv.rows} * plan.n_heads, attention_threads), args);
}

void run_attention(Context& context, const AttentionPlan& plan) {
  if (plan.kv.dtype == APIQ_F32) return launch_attention<Float32>(context, plan);
  launch_attention<Float16>(context, plan);
}

}  // namespace
}  // namespace apiq::cuda

extern "C" apiq_status apiq_attention(uint64_t context, const apiq_attention_args* args) {
  return apiq::cuda::submit(context, args, &apiq::cuda::run_attention);
}
