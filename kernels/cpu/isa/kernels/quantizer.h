// Kernels of the affine quantizer and its straight-through gradients. Clamps are written so that a NaN comes out as a NaN: min and
// max give their second operand where either is one.
#pragma once

namespace apiq::cpu::APIQ_ISA {
namespace {

inline Vec16 clamp(Vec16 v, Vec16 low, Vec16 high) { return min(high, max(low, v)); }

// A NaN among the weights makes both ends NaN.
void group_range(const float* w, float* low, float* high, uint64_t groups, uint32_t group, bool include_zero) {
  const Vec16 infinity = broadcast(__builtin_inff());
  for (uint64_t g = 0; g < groups; g++, w += group) {
    Vec16 most = broadcast(include_zero ? 0.0f : -__builtin_inff());
    Vec16 least = sub(zero(), most);
    uint32_t numbers = 0xffff;
    const auto take = [&](Vec16 v) {
      most = max(most, v);
      least = min(least, v);
      numbers &= less(v, infinity) | less(zero(), v);
    };
    uint32_t i = 0;
    for (; i + 16 <= group; i += 16) take(load(w + i));
    if (i < group) {  // eight lanes: the upper eight repeat them
      float twice[16];
      store_n(twice, load_n(w + i, 8), 8);
      store_n(twice + 8, load_n(w + i, 8), 8);
      take(load(twice));
    }
    const bool whole = (numbers & 0xffff) == 0xffff;
    low[g] = whole ? 0.0f - maximum(sub(zero(), least)) : __builtin_nanf("");
    high[g] = whole ? maximum(most) : __builtin_nanf("");
  }
}

// x = e^x for eight x, by a polynomial in double precision rounded to float32: the nearest float32 but for one argument in 10^5. The
// compiler's own vectors serve every instruction set: no operation here depends on the number of lanes.
inline void exp_nearest8(float* x) {
  typedef float Floats [[gnu::vector_size(32)]];
  typedef double Doubles [[gnu::vector_size(64)]];
  typedef uint64_t Words [[gnu::vector_size(64)]];
  const Doubles least = Doubles{} - 104.0;
  const Doubles most = Doubles{} + 89.0;
  Floats floats;
  __builtin_memcpy(&floats, x, sizeof floats);
  Doubles v = __builtin_convertvector(floats, Doubles);
  v = v < least ? least : v;
  v = v > most ? most : v;
  const Doubles t = v * 0x1.71547652b82fep+0 + 0x1.8p52;  // the nearest whole number is in the low bits
  const Doubles n = t - 0x1.8p52;
  const Doubles r = (v - n * 0x1.62e42fefa0000p-1) - n * 0x1.cf79abc9e3b3ap-40;
  Doubles p = r * (1.0 / 3628800) + 1.0 / 362880;
  for (const double factor : {1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1.0, 1.0}) p = p * r + factor;
  Words bits;
  __builtin_memcpy(&bits, &t, sizeof bits);
  const Words exponent = (bits + 1023) << 52;
  Doubles power;
  __builtin_memcpy(&power, &exponent, sizeof power);
  floats = __builtin_convertvector(p * power, Floats);
  __builtin_memcpy(x, &floats, sizeof floats);
}

// sigmoid as PyTorch computes it, three float32 operations, the first of them exact to half a unit in the last place.
inline Vec16 sigmoid_nearest(Vec16 x) {
  float lanes[16];
  store(lanes, sub(zero(), x));
  exp_nearest8(lanes);
  exp_nearest8(lanes + 8);
  return div(broadcast(1.0f), add(broadcast(1.0f), load(lanes)));
}

// What the clipping factors leave of a range: h, l and the scale before its clamp. A null factor is 1.
struct ClippedRange {
  Vec16 high_sigmoid;
  Vec16 low_sigmoid;
  Vec16 l;
  Vec16 raw_scale;
};

template <class Lanes>
inline ClippedRange clipped(Vec16 low, Vec16 high, const float* low_factor, const float* high_factor, float top, Lanes lanes) {
  const Vec16 one = broadcast(1.0f);
  const Vec16 high_sigmoid = high_factor == nullptr ? one : sigmoid_nearest(load(high_factor, lanes));
  const Vec16 low_sigmoid = low_factor == nullptr ? one : sigmoid_nearest(load(low_factor, lanes));
  const Vec16 l = mul(low_sigmoid, low);
  return {high_sigmoid, low_sigmoid, l, div(sub(mul(high_sigmoid, high), l), broadcast(top))};
}

inline Vec16 through_f16(Vec16 v) {
  f16 halves[16];
  store(halves, v);
  return load(halves);
}

void clip_range(const float* low, const float* high, const float* low_factor, const float* high_factor, float* scale,
                float* zero_point, uint64_t count, float top, bool round_scale) {
  const auto from = [](const float* factors, uint64_t i) { return factors == nullptr ? nullptr : factors + i; };
  each16(count, [&](uint64_t i, auto lanes) {
    const Vec16 low16 = load(low + i, lanes);
    const ClippedRange range = clipped(low16, load(high + i, lanes), from(low_factor, i), from(high_factor, i), top, lanes);
    Vec16 s = clamp(range.raw_scale, broadcast(1e-5f), broadcast(1e4f));
    if (round_scale) s = through_f16(s);
    const Vec16 z = round_even(clamp(div(sub(zero(), range.l), s), broadcast(-1e4f), broadcast(1e4f)));
    store(scale + i, s, lanes);
    store(zero_point + i, z, lanes);
  });
}

void clip_range_backward(const float* low, const float* high, const float* low_factor, const float* high_factor,
                         const float* dscale, float* dlow_factor, float* dhigh_factor, uint64_t count, float top) {
  const Vec16 one = broadcast(1.0f);
  each16(count, [&](uint64_t i, auto lanes) {
    const Vec16 low16 = load(low + i, lanes);
    const Vec16 high16 = load(high + i, lanes);
    const ClippedRange range = clipped(low16, high16, low_factor + i, high_factor + i, top, lanes);
    const uint32_t stopped = less(range.raw_scale, broadcast(1e-5f)) | less(broadcast(1e4f), range.raw_scale);
    const Vec16 dh = select(stopped, zero(), div(load(dscale + i, lanes), broadcast(top)));
    const Vec16 high_slope = mul(sub(one, range.high_sigmoid), range.high_sigmoid);
    const Vec16 low_slope = mul(sub(one, range.low_sigmoid), range.low_sigmoid);
    store(dhigh_factor + i, mul(mul(dh, high16), high_slope), lanes);
    store(dlow_factor + i, mul(mul(sub(zero(), dh), low16), low_slope), lanes);
  });
}

// A group's parameters in all lanes.
struct GroupParameters {
  Vec16 scale;
  Vec16 zero;
  bool stopped;  // clamp_zero moved the zero
};

inline GroupParameters group_parameters(const QuantizerGroups& groups, uint64_t g) {
  const Vec16 rounded = round_even(broadcast(groups.zero[g]));
  const Vec16 z = groups.clamp_zero ? clamp(rounded, zero(), broadcast(groups.top)) : rounded;
  return {broadcast(groups.scale[g]), z, (less(z, rounded) | less(rounded, z)) != 0};
}

void fake_quantize(const QuantizerGroups& groups, float* y, uint8_t* q) {
  const Vec16 top = broadcast(groups.top);
  for (uint64_t g = 0; g < groups.groups; g++) {
    const GroupParameters parameters = group_parameters(groups, g);
    const uint64_t first = g * groups.group;
    each16(groups.group, [&](uint64_t i, auto lanes) {
      const uint64_t at = first + i;
      const Vec16 level = clamp(add(round_even(div(load(groups.w + at, lanes), parameters.scale)), parameters.zero), zero(), top);
      if (q != nullptr) store_bytes(q + at, max(level, zero()), lanes);  // a NaN: 0
      if (y != nullptr) store(y + at, mul(parameters.scale, sub(level, parameters.zero)), lanes);
    });
  }
}

void fake_quantize_backward(const QuantizerGroups& groups, const float* dy, float* dw, float* dscale, float* dzero,
                            bool edges_inside) {
  const Vec16 top = broadcast(groups.top);
  // Levels are whole numbers: half a level tells an edge from what lies beyond it.
  const Vec16 lowest_inside = broadcast(edges_inside ? -0.5f : 0.5f);
  const Vec16 highest_inside = sub(top, lowest_inside);
  for (uint64_t g = 0; g < groups.groups; g++) {
    const GroupParameters parameters = group_parameters(groups, g);
    const uint64_t first = g * groups.group;
    Vec16 scale_sum = zero();
    Vec16 outside_sum = zero();
    each16(groups.group, [&](uint64_t i, auto lanes) {
      const uint64_t at = first + i;
      const Vec16 ratio = div(load(groups.w + at, lanes), parameters.scale);
      const Vec16 d = load(dy + at, lanes);
      const Vec16 n = add(round_even(ratio), parameters.zero);
      const Vec16 level = sub(clamp(n, zero(), top), parameters.zero);
      const uint32_t outside = less(n, lowest_inside) | less(highest_inside, n);
      scale_sum = fma(d, sub(level, select(outside, zero(), ratio)), scale_sum);
      outside_sum = add(outside_sum, select(outside, d, zero()));
      if (dw != nullptr) store(dw + at, select(outside, zero(), d), lanes);
    });
    dscale[g] = sum(scale_sum);
    if (dzero != nullptr) dzero[g] = parameters.stopped ? 0.0f : -(sum(outside_sum) * groups.scale[g]);
  }
}

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
