// A random affine matrix, in GPTQ's layout and in float64.
#pragma once

#include "random.h"
#include "session.h"

namespace apiq::test {

struct GptqMatrix {
  uint32_t out, in, bits, group, zero, format;
  std::vector<uint32_t> qweight;
  std::vector<uint32_t> qzeros;  // integer zeros
  std::vector<uint16_t> mins;    // float zeros
  std::vector<uint16_t> scales;
  std::vector<double> dense;          // [out, in]
  std::vector<float> dequantized;     // scale * (q - z), or fma(scale, q, m), in float32

  GptqMatrix(uint32_t out, uint32_t in, uint32_t bits, uint32_t group, uint32_t zero, uint32_t format, uint32_t seed)
      : out(out), in(in), bits(bits), group(group), zero(zero), format(format) {
    Random random(seed);
    const uint32_t groups = in / group;
    const uint32_t levels = 1u << bits;
    const uint32_t zero_words = (out * bits + 31) / 32;
    qweight.resize(in / 32 * bits * out);
    qzeros.resize(groups * zero_words);
    mins.resize(groups * out);
    scales.resize(groups * out);
    dense.resize(uint64_t{out} * in);
    dequantized.resize(dense.size());
    for (uint32_t row = 0; row < out; row++) {
      for (uint32_t g = 0; g < groups; g++) {
        const uint16_t scale = half_bits(random.uniform(0.25f, 1.0f) / static_cast<float>(levels));
        const uint16_t min = half_bits(random.uniform(-1.0f, 0.0f));
        const uint32_t z = random.below(levels);
        scales[g * out + row] = scale;
        mins[g * out + row] = min;
        put_bits(qzeros, g * zero_words, 1, row, format == APIQ_GPTQ_V1 ? (z - 1) & (levels - 1) : z);
        for (uint32_t i = g * group; i < (g + 1) * group; i++) {
          const uint32_t q = random.below(levels);
          put_bits(qweight, row, out, i, q);
          const double s = half_value(scale), m = half_value(min);
          const bool integer = zero == APIQ_ZERO_INTEGER;
          dense[uint64_t{row} * in + i] = integer ? s * (double(q) - double(z)) : s * q + m;
          dequantized[uint64_t{row} * in + i] = static_cast<float>(dense[uint64_t{row} * in + i]);
        }
      }
    }
  }

  // Repacks through the library; what is returned is ready for an op.
  apiq_weight repacked(const Session& session) const {
    apiq_weight weight{{0, 0}, APIQ_WEIGHT_AFFINE, 0, bits, group, zero, out, in, 0};
    uint64_t bytes = 0;
    session.ok(apiq_weight_packed_bytes(session.context, &weight, &bytes), "weight_packed_bytes");
    weight.data = session.zeros(bytes);
    apiq_weight_repack_args args{};
    args.qweight = session.put(qweight);
    args.zeros = zero == APIQ_ZERO_INTEGER ? session.put(qzeros) : session.put(mins);
    args.scales = session.put(scales);
    args.weight = weight;
    args.format = format;
    session.ok(apiq_weight_repack(session.context, &args), "weight_repack");
    return weight;
  }

 private:
  // Puts value number `index` of a bit stream whose words start at `first` and are `stride` apart.
  void put_bits(std::vector<uint32_t>& words, uint32_t first, uint32_t stride, uint32_t index, uint32_t value) const {
    for (uint32_t b = 0; b < bits; b++) {
      const uint32_t bit = index * bits + b;
      words[first + bit / 32 * stride] |= ((value >> b) & 1u) << (bit % 32);
    }
  }
};

}  // namespace apiq::test
