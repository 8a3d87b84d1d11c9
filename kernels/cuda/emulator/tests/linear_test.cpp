// Packed and dense linear against float64, over all widths, groups and zeros, and the packed form itself.
#include "../../launch.h"
#include "../../ops/gemv.cuh"
#include "gptq_matrix.h"

namespace apiq::test {
namespace {

struct Reference {
  std::vector<double> y;
  std::vector<double> tolerance;
};

// x W^T + bias in float64. The tolerance bounds what float32 sums of |x w| can lose, the zero's share included.
Reference linear(const std::vector<float>& x, uint32_t rows, const std::vector<double>& w, uint32_t out, uint32_t in,
                 const std::vector<float>& bias) {
  Reference result{std::vector<double>(uint64_t{rows} * out), std::vector<double>(uint64_t{rows} * out)};
  for (uint32_t r = 0; r < rows; r++) {
    for (uint32_t o = 0; o < out; o++) {
      double sum = bias.empty() ? 0.0 : bias[o];
      double magnitude = 1e-3;
      for (uint32_t i = 0; i < in; i++) {
        sum += double(x[r * in + i]) * w[uint64_t{o} * in + i];
        magnitude += std::fabs(double(x[r * in + i])) * 2.0;  // scales and mins are at most 1
      }
      result.y[r * out + o] = sum;
      result.tolerance[r * out + o] = magnitude * 2e-6;
    }
  }
  return result;
}

std::vector<float> run_linear(const Session& session, const apiq_ref& x, uint32_t rows, const apiq_weight& weight, const apiq_ref& bias) {
  apiq_linear_args args{};
  args.x = x;
  args.rows = rows;
  args.in_features = weight.in_features;
  args.activations = APIQ_ACTIVATIONS_F32;
  args.n_parts = 1;
  args.parts[0] = {weight, bias, session.zeros(uint64_t{rows} * weight.out_features * 4)};
  session.ok(apiq_linear(session.context, &args), "linear");
  return session.get<float>(args.parts[0].y, uint64_t{rows} * weight.out_features);
}

std::string title(const GptqMatrix& m, uint32_t rows) {
  return std::to_string(m.bits) + " bits, group " + std::to_string(m.group) + (m.zero == APIQ_ZERO_FLOAT ? ", float zero" : "") + ", [" +
         std::to_string(m.out) + ", " + std::to_string(m.in) + "], " + std::to_string(rows) + " rows";
}

void for_all_formats(void (*body)(uint32_t bits, uint32_t group, uint32_t zero)) {
  for (const uint32_t bits : {2u, 3u, 4u, 8u}) {
    for (const uint32_t group : {32u, 64u, 128u}) {
      for (const uint32_t zero : {APIQ_ZERO_INTEGER, APIQ_ZERO_FLOAT}) body(bits, group, zero);
    }
  }
}

const Register dequantize("weight: repack then dequantize gives every bit back, all formats, GPTQ v1 and v2", [] {
  for_all_formats([](uint32_t bits, uint32_t group, uint32_t zero) {
    for (const uint32_t format : {APIQ_GPTQ_V1, APIQ_GPTQ_V2}) {
      const Session session;
      const GptqMatrix matrix(37, 3 * group, bits, group, zero, format, bits * group + format);
      apiq_weight_dequantize_args args{};
      args.weight = matrix.repacked(session);
      args.first_row = 5;
      args.n_rows = 32;
      args.y = session.zeros(uint64_t{args.n_rows} * matrix.in * 4);
      session.ok(apiq_weight_dequantize(session.context, &args), "weight_dequantize");
      const std::vector<float> y = session.get<float>(args.y, uint64_t{args.n_rows} * matrix.in);
      for (uint64_t i = 0; i < y.size(); i++) {
        const float expected = matrix.dequantized[5 * matrix.in + i];
        check(y[i] == expected, title(matrix, 0) + ": element " + std::to_string(i) + " is " + std::to_string(y[i]) + ", expected " +
                                    std::to_string(expected));
      }
    }
  });
});

const Register packed("linear: packed against float64, all formats, ragged shapes, 1 to 11 rows", [] {
  for_all_formats([](uint32_t bits, uint32_t group, uint32_t zero) {
    const Session session;
    // Less than a tile of outputs; more than one stage of 1024 inputs and so several stretches; no multiple of a tile.
    const uint32_t shapes[][2] = {{5, group}, {33, 1024 + 3 * group}};
    for (const auto& [out, in] : shapes) {
      Random random(out + in + bits);
      const GptqMatrix matrix(out, in, bits, group, zero, APIQ_GPTQ_V2, bits + group);
      const apiq_weight weight = matrix.repacked(session);
      const std::vector<float> bias = random.floats(out);
      const std::vector<float> x = random.floats(uint64_t{11} * in);
      const apiq_ref x_ref = session.put(x);
      const apiq_ref bias_ref = session.put(bias);
      std::vector<float> one_row;
      for (const uint32_t rows : {1u, 2u, 3u, 8u, 11u}) {
        if (rows > 3 && in > 1024 && group != 64) continue;  // the emulator's time
        const std::vector<float> y = run_linear(session, x_ref, rows, weight, bias_ref);
        const Reference expected = linear(x, rows, matrix.dense, out, in, bias);
        check_near(y, expected.y, expected.tolerance, title(matrix, rows));
        if (rows == 1) one_row = y;
        check(std::equal(one_row.begin(), one_row.end(), y.begin()), title(matrix, rows) + ": the first row depends on the others");
      }
    }
  });
});

const Register dense("linear: dense float32, float16 and bfloat16 against float64", [] {
  const Session session;
  const uint32_t out = 21, in = 77, rows = 3;
  Random random(7);
  const std::vector<float> values = random.floats(uint64_t{out} * in);
  const std::vector<float> x = random.floats(uint64_t{rows} * in);
  for (const uint32_t dtype : {APIQ_F32, APIQ_F16, APIQ_BF16}) {
    std::vector<double> exact(values.size());
    std::vector<uint16_t> halves(values.size());
    for (uint64_t i = 0; i < values.size(); i++) {
      halves[i] = dtype == APIQ_F16 ? half_bits(values[i]) : static_cast<uint16_t>(std::bit_cast<uint32_t>(values[i]) >> 16);
      exact[i] = dtype == APIQ_F32 ? double(values[i]) : dtype == APIQ_F16 ? half_value(halves[i]) : double(to_float(bf16{halves[i]}));
    }
    const apiq_weight weight{dtype == APIQ_F32 ? session.put(values) : session.put(halves), APIQ_WEIGHT_DENSE, dtype, 0, 0, 0, out, in, 0};
    const Reference expected = linear(x, rows, exact, out, in, {});
    check_near(run_linear(session, session.put(x), rows, weight, {0, 0}), expected.y, expected.tolerance, "dtype " + std::to_string(dtype));
  }
});

const Register parts("linear: parts of different widths share an input", [] {
  const Session session;
  Random random(11);
  const uint32_t in = 128, rows = 2;
  const std::vector<float> x = random.floats(rows * in);
  const GptqMatrix two(40, in, 2, 64, APIQ_ZERO_INTEGER, APIQ_GPTQ_V2, 1);
  const GptqMatrix four(8, in, 4, 64, APIQ_ZERO_FLOAT, APIQ_GPTQ_V2, 2);
  apiq_linear_args args{};
  args.x = session.put(x);
  args.rows = rows;
  args.in_features = in;
  args.n_parts = 2;
  args.parts[0] = {two.repacked(session), {0, 0}, session.zeros(rows * two.out * 4)};
  args.parts[1] = {four.repacked(session), {0, 0}, session.zeros(rows * four.out * 4)};
  session.ok(apiq_linear(session.context, &args), "linear");
  for (const auto& [matrix, part] : {std::pair{&two, 0}, std::pair{&four, 1}}) {
    const Reference expected = linear(x, rows, matrix->dense, matrix->out, in, {});
    check_near(session.get<float>(args.parts[part].y, rows * matrix->out), expected.y, expected.tolerance, "part " + std::to_string(part));
  }
});

// Matrices so large that a block takes several stages of its stretch are beyond the emulator, so the kernel is launched by hand.
const Register stages("linear: a block that takes several stages of its stretch", [] {
  using namespace cuda;
  const Session session;
  const GptqMatrix matrix(33, 2048 + 64, 2, 64, APIQ_ZERO_INTEGER, APIQ_GPTQ_V2, 5);
  const apiq_weight weight = matrix.repacked(session);
  const AffineLayout layout = affine_layout(weight_shape(weight, "weight"));
  const std::vector<uint32_t> words = session.get<uint32_t>(weight.data, affine_words(layout));
  const std::vector<float> x = Random(6).floats(matrix.in);

  const auto device_copy = [](const auto& values) {
    using T = typename std::decay_t<decltype(values)>::value_type;
    T* const data = reinterpret_cast<T*>(emulator::allocate(values.size() * sizeof(T)));
    std::copy(values.begin(), values.end(), data);
    return data;
  };
  uint32_t* const device_words = device_copy(words);
  float* const device_x = device_copy(x);
  float* const device_y = device_copy(std::vector<float>(matrix.out));
  GemvArgs args;
  args.weight = {{device_words, words.size()}, layout};
  args.x = {device_x, x.size()};
  args.y = {device_y, matrix.out};
  args.rows = 1;
  args.stages_per_stretch = 3;
  device::make_stream()->launch(gemv_kernel<2, 1>, {layout.row_tiles, 1, gemv_threads}, args);
  const Reference expected = linear(x, 1, matrix.dense, matrix.out, matrix.in, {});
  check_near(std::vector<float>(device_y, device_y + matrix.out), expected.y, expected.tolerance, "y");
  for (void* const data : {static_cast<void*>(device_words), static_cast<void*>(device_x), static_cast<void*>(device_y)}) {
    emulator::release(static_cast<std::byte*>(data));
  }
});

const Register nonfinite("linear: a padding column or row never reaches a result", [] {
  // The last tile is mostly padding; an infinity in x must make infinities, and NaNs only where float arithmetic itself does.
  const Session session;
  const GptqMatrix matrix(3, 32, 2, 32, APIQ_ZERO_INTEGER, APIQ_GPTQ_V2, 3);
  std::vector<float> x(64, 1.0f);
  x[0] = INFINITY;
  const std::vector<float> y = run_linear(session, session.put(x), 2, matrix.repacked(session), {0, 0});
  for (uint32_t o = 0; o < 3; o++) check(!std::isfinite(y[o]) && std::isfinite(y[3 + o]), "output " + std::to_string(o));
});

}  // namespace
}  // namespace apiq::test
