#include "lora.h"

namespace apiq {

LoraPlan plan(ContextBase& context, const apiq_lora_args& args) {
  require_positive(args.rows, "rows");
  require_positive(args.in_features, "in_features");
  require_positive(args.n_slots, "n_slots");
  require_positive(args.max_rank, "max_rank");
  require_zero(args.reserved, "reserved");
  APIQ_REQUIRE(args.n_parts >= 1 && args.n_parts <= APIQ_MAX_PARTS, "n_parts: received %u, expected 1 to %u", args.n_parts,
               static_cast<uint32_t>(APIQ_MAX_PARTS));
  LoraPlan plan{};
  const uint64_t x_count = uint64_t{args.rows} * args.in_features;
  plan.x = context.in<float>(args.x, x_count, "x");
  plan.pool = context.in<std::byte>(args.pool, args.pool_bytes, "pool", alignof(float));
  plan.row_slots = context.in<int32_t>(args.row_slots, uint64_t{args.rows} * 2, "row_slots");
  plan.pool_bytes = args.pool_bytes;
  plan.rows = args.rows;
  plan.in_features = args.in_features;
  plan.n_slots = args.n_slots;
  plan.max_rank = args.max_rank;
  plan.n_parts = args.n_parts;
  for (uint32_t i = 0; i < args.n_parts; i++) {
    const apiq_lora_part& part = args.parts[i];
    require_positive(part.out_features, "parts.out_features");
    require_zero(part.reserved, "parts.reserved");
    const uint64_t y_count = uint64_t{args.rows} * part.out_features;
    plan.parts[i] = {context.in<apiq_lora_slot>(part.slots, args.n_slots, "parts.slots"), context.out<float>(part.y, y_count, "parts.y"),
                     part.out_features};
    const uint64_t y_bytes = y_count * sizeof(float);
    require_apart(plan.parts[i].y, y_bytes, plan.x, x_count * sizeof(float), "parts.y and x");
    require_apart(plan.parts[i].y, y_bytes, plan.pool, plan.pool_bytes, "parts.y and pool");
    require_apart(plan.parts[i].y, y_bytes, plan.row_slots, uint64_t{args.rows} * 2 * sizeof(int32_t), "parts.y and row_slots");
    for (uint32_t j = 0; j < i; j++) {
      require_apart(plan.parts[i].y, y_bytes, plan.parts[j].y, uint64_t{args.rows} * plan.parts[j].out_features * sizeof(float),
                    "parts.y of two parts");
    }
  }
  return plan;
}

}  // namespace apiq
