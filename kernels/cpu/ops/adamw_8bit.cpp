#include <algorithm>
#include <bit>
#include <cmath>

#include "../../common/dynamic_codes.h"
#include "../core/context.h"
#include "adamw_factors.h"
#include "elementwise_items.h"

namespace apiq::cpu {
namespace {

// From a magnitude of [0, 1] to the code of the nearest value that is not negative. Magnitudes fall into cells by their exponent
// and seven bits of their fraction; a cell holds at most one border between two values.
class Encoder {
 public:
  explicit constexpr Encoder(const DynamicCodes& codes) {
    uint32_t code = codes.zero;
    const auto border = [&] { return code == 255 ? 2 : (codes.value[code] + codes.value[code + 1]) / 2; };
    for (uint32_t cell = 0; cell < cells; cell++) {
      const float begin = cell == 0 ? 0 : std::bit_cast<float>((cell + first_cell) << fraction_left);
      while (begin > border()) code++;
      code_[cell] = static_cast<uint8_t>(code);
      border_[cell] = border();
    }
  }

  uint8_t encode(float magnitude) const {
    const uint32_t place = std::bit_cast<uint32_t>(magnitude) >> fraction_left;
    const uint32_t cell = std::min(place - std::min(place, first_cell), cells - 1);
    return static_cast<uint8_t>(code_[cell] + (magnitude > border_[cell] ? 1 : 0));
  }

 private:
  static constexpr uint32_t fraction_left = 16;
  static constexpr uint32_t first_cell = (127 - 24) << 7;  // of 2^-24, which is below every border
  static constexpr uint32_t cells = (24 << 7) + 1;         // up to 1

  float border_[cells] = {};
  uint8_t code_[cells] = {};
};

constexpr DynamicCodes signed_codes = dynamic_codes(true);
constexpr DynamicCodes unsigned_codes = dynamic_codes(false);
constexpr Encoder signed_encoder(signed_codes);
constexpr Encoder unsigned_encoder(unsigned_codes);

// Codes of negative values are those of positive ones mirrored at 0's, without branches on the sign, which nothing foretells. Value
// -1 has no code: the largest magnitude of a negative one is the centre below.
uint8_t encode_signed(float x) {
  const uint32_t negative = std::bit_cast<uint32_t>(x) >> 31;
  const uint32_t distance = std::min(signed_encoder.encode(std::fabs(x)) - signed_codes.zero, 128 - negative);
  return static_cast<uint8_t>(signed_codes.zero + ((distance ^ (0 - negative)) + negative));
}

// The largest magnitude; a NaN if there is one. As whole numbers, floats have the order of their magnitudes, NaNs above all.
float largest_magnitude(const float* x, uint64_t count) {
  uint32_t most = 0;
  for (uint64_t i = 0; i < count; i++) most = std::max(most, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  return std::bit_cast<float>(most);
}

void divide(float* x, float by, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) x[i] /= by;
}

void decode(const uint8_t* codes, float scale, const DynamicCodes& by, float* x, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) x[i] = scale * by.value[codes[i]];
}

class Adamw8bit final : public Op {
 public:
  Adamw8bit(const Adamw8bitPlan& plan, Isa isa)
      : plan_(plan), factors_(factors_of(plan.settings)), kernels_(training_kernels(isa)) {}

  uint64_t items(uint32_t) const override { return elementwise_items(plan_.count); }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker&) override {
    each_range(begin, end, plan_.count, [&](uint64_t first, uint64_t n) {
      for (uint64_t at = first; at < first + n; at += moment_block) step(at, std::min(moment_block, first + n - at));
    });
  }

 private:
  static_assert(elements_per_item % moment_block == 0);

  void step(uint64_t first, uint64_t count) const {
    float m[moment_block];
    float v[moment_block];
    float& m_scale = plan_.m_scale[first / moment_block];
    float& v_scale = plan_.v_scale[first / moment_block];
    uint8_t* m_codes = plan_.m + first;
    uint8_t* v_codes = plan_.v + first;
    decode(m_codes, m_scale, signed_codes, m, count);
    decode(v_codes, v_scale, unsigned_codes, v, count);
    kernels_.adamw(plan_.parameter + first, plan_.grad + first, m, v, count, factors_);
    m_scale = largest_magnitude(m, count);
    v_scale = largest_magnitude(v, count);
    if (m_scale > 0) {
      divide(m, m_scale, count);
      for (uint64_t i = 0; i < count; i++) m_codes[i] = encode_signed(m[i]);
    }
    if (v_scale > 0) {
      divide(v, v_scale, count);
      for (uint64_t i = 0; i < count; i++) v_codes[i] = std::max<uint8_t>(unsigned_encoder.encode(v[i]), v[i] > 0 ? 1 : 0);
    }
  }

  const Adamw8bitPlan plan_;
  const AdamwFactors factors_;
  const TrainingKernels& kernels_;
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_adamw_8bit(uint64_t context, const apiq_adamw_8bit_args* args) {
  return apiq::cpu::submit<apiq::cpu::Adamw8bit>(context, args);
}
