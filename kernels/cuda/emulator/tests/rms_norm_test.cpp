// RMSNorm against float64.
#include "random.h"
#include "session.h"

namespace apiq::test {
namespace {

void expect_rms_norm(uint32_t rows, uint32_t cols, uint32_t x_stride, uint32_t y_stride, bool in_place) {
  const Session session;
  Random random(rows * 1000 + cols);
  const uint64_t x_count = uint64_t{rows - 1} * x_stride + cols;
  const uint64_t y_count = uint64_t{rows - 1} * y_stride + cols;
  const std::vector<float> x = random.floats(x_count, -3, 3);
  const std::vector<float> weight = random.floats(cols, 0.5f, 1.5f);
  apiq_rms_norm_args args{};
  args.x = session.put(x);
  args.weight = session.put(weight);
  args.y = in_place ? args.x : session.put(std::vector<float>(y_count, 7.0f));
  args.rows = rows;
  args.cols = cols;
  args.x_stride = x_stride;
  args.y_stride = y_stride;
  args.eps = 1e-5f;
  session.ok(apiq_rms_norm(session.context, &args), "rms_norm");
  std::vector<double> expected(y_count, 7.0);
  std::vector<double> tolerance(y_count, 0.0);
  for (uint32_t r = 0; r < rows; r++) {
    double squares = 0;
    for (uint32_t i = 0; i < cols; i++) squares += double(x[r * x_stride + i]) * x[r * x_stride + i];
    const double scale = 1.0 / std::sqrt(squares / cols + double(args.eps));
    for (uint32_t i = 0; i < cols; i++) {
      expected[r * y_stride + i] = x[r * x_stride + i] * scale * weight[i];
      tolerance[r * y_stride + i] = std::fabs(expected[r * y_stride + i]) * 1e-6 + 1e-12;
    }
  }
  check_near(session.get<float>(args.y, y_count), expected, tolerance, "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]");
}

const Register ragged("rms_norm: against float64 at ragged shapes", [] {
  for (const uint32_t cols : {1u, 31u, 33u, 256u, 577u, 2048u}) expect_rms_norm(3, cols, cols, cols, false);
});
const Register strided("rms_norm: strides leave what lies between rows alone", [] { expect_rms_norm(4, 48, 64, 50, false); });
const Register in_place("rms_norm: in place", [] { expect_rms_norm(2, 300, 300, 300, true); });

}  // namespace
}  // namespace apiq::test
