#pragma once

#include "checks.h"

namespace apiq {

struct LoraPlan {
  struct Part {
    const apiq_lora_slot* slots;  // [n_slots]
    float* y;                     // [rows, out_features], added to
    uint32_t out_features;
  };
  const float* x;           // [rows, in_features]
  const std::byte* pool;    // pool_bytes
  const int32_t* row_slots;  // [rows, 2]
  uint64_t pool_bytes;
  uint32_t rows;
  uint32_t in_features;
  uint32_t n_slots;
  uint32_t max_rank;
  uint32_t n_parts;
  Part parts[APIQ_MAX_PARTS];
};

LoraPlan plan(ContextBase& context, const apiq_lora_args& args);

// What is wrong with a slot. Its contents are data, checked when the op runs.
struct LoraSlotFault {
  apiq_status status;  // APIQ_OK: nothing is
  const char* text;
};

// Where the factors of a slot lie in the pool, for slots without fault.
inline uint64_t lora_factors_offset(const apiq_lora_slot& slot, uint32_t out_features) {
  const uint64_t element = slot.dtype == APIQ_F32 ? sizeof(float) : sizeof(uint16_t);
  return (slot.b_offset + uint64_t{slot.rank} * out_features * element + 63) / 64 * 64;
}

inline LoraSlotFault lora_slot_fault(const apiq_lora_slot& slot, const LoraPlan& plan, uint32_t out_features) {
  if (slot.rank == 0) return {APIQ_OK, nullptr};
  if (slot.rank > plan.max_rank) return {APIQ_INVALID_ARGUMENT, "the rank exceeds max_rank"};
  if (slot.dtype != APIQ_F32 && slot.dtype != APIQ_F16) return {APIQ_INVALID_ARGUMENT, "the dtype is neither APIQ_F32 nor APIQ_F16"};
  if (!std::isfinite(slot.scale)) return {APIQ_INVALID_ARGUMENT, "the scale is not finite"};
  if (slot.factors > 1) return {APIQ_INVALID_ARGUMENT, "factors is neither 0 nor 1"};
  const uint64_t element = slot.dtype == APIQ_F32 ? sizeof(float) : sizeof(uint16_t);
  if (slot.a_offset % element != 0 || slot.b_offset % element != 0) {
    return {APIQ_INVALID_ARGUMENT, "an offset is not aligned to its element"};
  }
  const auto reaches_past = [&](uint64_t offset, uint32_t width) {
    uint64_t bytes;
    return __builtin_mul_overflow(uint64_t{slot.rank} * width, element, &bytes) || offset > plan.pool_bytes ||
           bytes > plan.pool_bytes - offset;
  };
  if (reaches_past(slot.a_offset, plan.in_features)) return {APIQ_OUT_OF_RANGE, "A reaches past the pool"};
  if (reaches_past(slot.b_offset, out_features)) return {APIQ_OUT_OF_RANGE, "B reaches past the pool"};
  if (slot.factors == 1) {
    const uint64_t offset = lora_factors_offset(slot, out_features);
    if (offset > plan.pool_bytes || 2 * sizeof(float) * out_features > plan.pool_bytes - offset) {
      return {APIQ_OUT_OF_RANGE, "the factors reach past the pool"};
    }
  }
  return {APIQ_OK, nullptr};
}

}  // namespace apiq
