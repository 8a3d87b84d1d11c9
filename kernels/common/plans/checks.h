// What the plans share. A plan checks an op's arguments once, for every backend, and resolves its refs to addresses.
#pragma once

#include <cinttypes>
#include <cmath>
#include <cstdint>

#include "../context_base.h"

namespace apiq {

inline void require_positive(uint64_t value, const char* name) {
  APIQ_REQUIRE(value > 0, "%s: received 0, expected at least 1", name);
}

inline void require_zero(uint64_t value, const char* name) {
  APIQ_REQUIRE(value == 0, "%s: received %" PRIu64 ", expected 0", name, value);
}

// An option that is on or off.
inline void require_flag(uint32_t value, const char* name) {
  APIQ_REQUIRE(value <= 1, "%s: received %u, expected 0 or 1", name, value);
}

inline void require_finite(float value, const char* name) {
  APIQ_REQUIRE(std::isfinite(value), "%s: received %g, expected a finite number", name, static_cast<double>(value));
}

// Fails when [a, a + a_bytes) and [b, b + b_bytes) share a byte: outputs and inputs may only alias where apiq.h says so.
inline void require_apart(const void* a, uint64_t a_bytes, const void* b, uint64_t b_bytes, const char* names) {
  const uintptr_t first = reinterpret_cast<uintptr_t>(a);
  const uintptr_t second = reinterpret_cast<uintptr_t>(b);
  APIQ_REQUIRE(first + a_bytes <= second || second + b_bytes <= first, "%s: the tensors overlap", names);
}

// Same, but exactly the same tensor is allowed: elementwise ops may work in place.
inline void require_same_or_apart(const void* a, const void* b, uint64_t bytes, const char* names) {
  if (a != b) require_apart(a, bytes, b, bytes, names);
}

}  // namespace apiq
