// apiq_rope_table and apiq_rotary.
#include "../../common/plans/rope.h"

#include "../launch.h"

namespace apiq::cuda {
namespace {

constexpr uint32_t rope_threads = 128;

struct RopeTableArgs {
  Global<const int32_t> positions;
  Global<const float> inv_freq;
  Global<float> table;  // [rows, 2, half_dim]
  uint32_t half_dim;
  float scale;
};

// Grid: a block per row. Once a step for all layers, so the angle, a float32 product, can afford its cosine in float64.
APIQ_KERNEL(rope_threads) rope_table_kernel(RopeTableArgs a) {
  const uint32_t row = block_index_x();
  const float position = static_cast<float>(a.positions.load(row));
  const uint64_t first = static_cast<uint64_t>(row) * 2 * a.half_dim;
  for (uint32_t i = thread_index(); i < a.half_dim; i += rope_threads) {
    const double angle = static_cast<double>(position * a.inv_freq.load(i));
    a.table.store(first + i, static_cast<float>(cosine(angle)) * a.scale);
    a.table.store(first + a.half_dim + i, static_cast<float>(sine(angle)) * a.scale);
  }
}

struct RotaryArgs {
  Global<float> x;            // [rows, n_heads, head_dim]
  Global<const float> table;  // [rows, 2, head_dim / 2]
  uint32_t n_heads;
  uint32_t half_dim;
  float sign;  // of the angles
};

// Grid: a block per row; a thread turns one pair of one head at a time.
APIQ_KERNEL(rope_threads) rotary_kernel(RotaryArgs a) {
  const uint32_t row = block_index_x();
  const uint64_t row_first = static_cast<uint64_t>(row) * a.n_heads * 2 * a.half_dim;
  const uint64_t table_first = static_cast<uint64_t>(row) * 2 * a.half_dim;
  for (uint32_t pair = thread_index(); pair < a.n_heads * a.half_dim; pair += rope_threads) {
    const uint32_t i = pair % a.half_dim;
    const uint64_t at = row_first + static_cast<uint64_t>(pair / a.half_dim) * 2 * a.half_dim + i;
    const float low = a.x.load(at);
    const float high = a.x.load(at + a.half_dim);
    const float cos_i = a.table.load(table_first + i);
    const float sin_i = a.sign * a.table.load(table_first + a.half_dim + i);
    a.x.store(at, fma(-high, sin_i, low * cos_i));
    a.x.store(at + a.half_dim, fma(low, sin_i, high * cos_i));
  }
}

void run_rope_table(Context& context, const RopeTablePlan& plan) {
  const RopeTableArgs args{{plan.positions, plan.rows},
                           {plan.inv_freq, plan.half_dim},
                           {plan.table, uint64_t{plan.rows} * 2 * plan.half_dim},
                           plan.half_dim,
                           plan.scale};
  context.stream().launch(rope_table_kernel, line_of_blocks(plan.rows, rope_threads), args);
}

void run_rotary(Context& context, const RotaryPlan& plan) {
  const RotaryArgs args{{plan.x, uint64_t{plan.rows} * plan.n_heads * plan.head_dim},
                        {plan.table, uint64_t{plan.rows} * plan.head_dim},
                        plan.n_heads,
                        plan.head_dim / 2,
                        plan.inverse ? -1.0f : 1.0f};
  context.stream().launch(rotary_kernel, line_of_blocks(plan.rows, rope_threads), args);
}

}  // namespace
}  // namespace apiq::cuda

extern "C" apiq_status apiq_rope_table(uint64_t context, const apiq_rope_table_args* args) {
  return apiq::cuda::submit(context, args, &apiq::cuda::run_rope_table);
}

extern "C" apiq_status apiq_rotary(uint64_t context, const apiq_rotary_args* args) {
  return apiq::cuda::submit(context, args, &apiq::cuda::run_rotary);
}
