// Forward substitution, 64 columns of the result at a time: y[i, j] = (e[i, j] - sum over k < i, in order, of l[i, k] y[k, j])
// / l[i, i], the sum in double precision, the result rounded once.
#include "../../common/plans/factor.h"
#include "../core/context.h"
#include "../linalg/tiles.h"
#include "report.h"

namespace apiq::cpu {
namespace {

// Items are panels of columns; the first, with the most work, start first.
class TriangularInverse final : public Op {
 public:
  TriangularInverse(const TriangularInversePlan& plan, Isa isa) : plan_(plan), kernels_(linalg_kernels(isa)) {}

  uint64_t items(uint32_t) const override { return (uint64_t{plan_.n} + panel_columns - 1) / panel_columns; }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker& worker) override {
    for (uint64_t item = begin; item < end; item++) solve(item * panel_columns, worker);
  }

 private:
  void solve(uint64_t first, Worker& worker) const {
    const uint64_t n = plan_.n;
    const uint32_t columns = static_cast<uint32_t>(std::min<uint64_t>(panel_columns, n - first));
    const uint64_t strip_stride = (n - first) * strip_columns;
    const uint64_t panel = (panel_columns / strip_columns) * strip_stride;
    double* p = reinterpret_cast<double*>(worker.scratch((panel + row_block * (panel_columns + depth_block)) * sizeof(double)));
    double* c = p + panel;
    double* widened = c + row_block * panel_columns;

    for (uint64_t i = 0; i < first; i++) std::fill_n(plan_.y + i * n + first, columns, 0.0f);
    for (uint64_t i = first; i < n; i += row_block) {
      const uint32_t rows = static_cast<uint32_t>(std::min<uint64_t>(row_block, n - i));
      std::fill_n(c, rows * panel_columns, 0.0);
      for (uint32_t r = 0; r < rows; r++) {
        if (i + r < first + columns) c[r * panel_columns + (i + r - first)] = 1;
      }
      subtract_rows(kernels_, plan_.l + i * n + first, n, rows, p, strip_stride, i - first, c, widened);
      widen_rows(plan_.l + i * n + i, n, rows, rows, widened);
      for (uint32_t r = 0; r < rows; r++) {
        const double pivot = widened[r * depth_block + r];
        if (pivot == 0) {
          return report(worker, APIQ_OUT_OF_RANGE, "Cannot invert the matrix: received 0 as diagonal element %" PRIu64, i + r);
        }
        finish_row(c + r * panel_columns, pivot, first, columns, i + r, p, strip_stride);
        const double* below = widened + (r + 1) * depth_block + r;
        const double* solved = p + (i + r - first) * strip_columns;
        kernels_.subtract_products(below, depth_block, solved, strip_stride, 1, c + (r + 1) * panel_columns, rows - r - 1);
      }
    }
  }

  // Row i of the result: to y, and as doubles to the panel.
  void finish_row(const double* c, double pivot, uint64_t first, uint32_t columns, uint64_t i, double* p,
                  uint64_t strip_stride) const {
    for (uint32_t j = 0; j < panel_columns; j++) {
      const float value = static_cast<float>(c[j] / pivot);
      if (j < columns) plan_.y[i * plan_.n + first + j] = i < first + j ? 0.0f : value;
      p[j / strip_columns * strip_stride + (i - first) * strip_columns + j % strip_columns] = static_cast<double>(value);
    }
  }

  const TriangularInversePlan plan_;
  const LinalgKernels& kernels_;
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_triangular_inverse(uint64_t context, const apiq_triangular_inverse_args* args) {
  return apiq::cpu::submit<apiq::cpu::TriangularInverse>(context, args);
}
