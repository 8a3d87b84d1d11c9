// Reproducible numbers for tests, and what float16 makes of them.
#pragma once

#include <cmath>
#include <random>
#include <vector>

#include "../../../common/half.h"

namespace apiq::test {

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  float uniform(float low, float high) { return low + (high - low) * static_cast<float>(engine_() / 4294967296.0); }
  uint32_t below(uint32_t end) { return static_cast<uint32_t>(engine_() % end); }
  std::vector<float> floats(uint64_t count, float low = -1, float high = 1) {
    std::vector<float> values(count);
    for (float& value : values) value = uniform(low, high);
    return values;
  }

 private:
  std::mt19937 engine_;
};

inline uint16_t half_bits(float value) { return to_f16(value).bits; }
inline double half_value(uint16_t bits) { return static_cast<double>(to_float(f16{bits})); }

}  // namespace apiq::test
