// Left-looking, by panels of 64 columns: L[i, j] = (a[i, j] - sum over k < j, in order, of L[i, k] L[j, k]) / L[j, j], the sum
// in double precision, the result rounded once. What an element is does not depend on the panels.
#include <cmath>

#include "../../common/plans/factor.h"
#include "../core/context.h"
#include "../linalg/tiles.h"

namespace apiq::cpu {
namespace {

// Each panel takes three phases: its rows as doubles, transposed; its diagonal block; the rows below.
class Cholesky final : public Op {
 public:
  Cholesky(const CholeskyPlan& plan, Isa isa)
      : plan_(plan),
        kernels_(linalg_kernels(isa)),
        strip_stride_(uint64_t{plan.n} * strip_columns),
        panel_(std::make_unique<double[]>(strip_stride_ * (panel_columns / strip_columns))),
        diagonal_(std::make_unique<double[]>(panel_columns * panel_columns)) {}

  uint32_t phases() const override { return panels() * 3; }

  uint64_t items(uint32_t phase) const override {
    const uint64_t first = first_column(phase);
    if (phase % 3 == 0) return (first + depth_block - 1) / depth_block;
    if (phase % 3 == 1) return 1;
    return (plan_.n - first - width(phase) + row_block - 1) / row_block;
  }

  void run(uint32_t phase, uint64_t begin, uint64_t end, Worker& worker) override {
    if (phase > 1 && *plan_.failed_pivot >= 0) return;
    const uint32_t first = first_column(phase);
    for (uint64_t item = begin; item < end; item++) {
      if (phase % 3 == 0) transpose(first, width(phase), item * depth_block);
      else if (phase % 3 == 1) factor_diagonal(first, width(phase), worker);
      else factor_rows(first, first + panel_columns + item * row_block, worker);
    }
  }

 private:
  uint32_t panels() const { return (plan_.n + panel_columns - 1) / panel_columns; }
  uint32_t first_column(uint32_t phase) const { return phase / 3 * panel_columns; }
  uint32_t width(uint32_t phase) const { return std::min(panel_columns, plan_.n - first_column(phase)); }
  float* row(uint64_t r) const { return plan_.a + r * plan_.n; }

  void transpose(uint32_t first, uint32_t columns, uint64_t begin) {
    const uint64_t end = std::min<uint64_t>(begin + depth_block, first);
    for (uint32_t c = 0; c < panel_columns; c++) {
      double* to = panel_.get() + c / strip_columns * strip_stride_ + c % strip_columns;
      for (uint64_t k = begin; k < end; k++) to[k * strip_columns] = c < columns ? static_cast<double>(row(first + c)[k]) : 0.0;
    }
  }

  // c[rows, 64] = a[first_row.., first..] minus the products of the columns before.
  void reduce(uint32_t first, uint32_t columns, uint64_t first_row, uint32_t rows, double* c, double* widened) const {
    for (uint32_t r = 0; r < rows; r++) {
      const float* from = row(first_row + r) + first;
      for (uint32_t j = 0; j < panel_columns; j++) {
        c[r * panel_columns + j] = j < columns && first + j <= first_row + r ? static_cast<double>(from[j]) : 0.0;
      }
    }
    subtract_rows(kernels_, row(first_row), plan_.n, rows, panel_.get(), strip_stride_, first, c, widened);
  }

  void factor_diagonal(uint32_t first, uint32_t columns, Worker& worker) {
    if (first == 0) *plan_.failed_pivot = -1;
    double* c = reinterpret_cast<double*>(worker.scratch(panel_columns * (panel_columns + depth_block) * sizeof(double)));
    reduce(first, columns, first, columns, c, c + panel_columns * panel_columns);
    double* lt = diagonal_.get();
    std::fill_n(lt, panel_columns * panel_columns, 0.0);
    for (uint32_t j = 0; j < columns; j++) {
      const float pivot = static_cast<float>(std::sqrt(c[j * panel_columns + j]));
      if (!(pivot > 0) || !std::isfinite(pivot)) {
        *plan_.failed_pivot = static_cast<int32_t>(first + j);
        return;
      }
      double* column = lt + j * panel_columns;
      column[j] = static_cast<double>(pivot);
      for (uint32_t i = j + 1; i < columns; i++) {
        column[i] = static_cast<double>(static_cast<float>(c[i * panel_columns + j] / column[j]));
      }
      for (uint32_t i = j + 1; i < columns; i++) {
        for (uint32_t k = j + 1; k <= i; k++) c[i * panel_columns + k] -= column[i] * column[k];
      }
    }
    for (uint32_t i = 0; i < columns; i++) {
      float* to = row(first + i) + first;
      for (uint32_t j = 0; j < columns; j++) to[j] = j <= i ? static_cast<float>(lt[j * panel_columns + i]) : 0.0f;
    }
  }

  // Only full panels have rows below them.
  void factor_rows(uint32_t first, uint64_t first_row, Worker& worker) {
    const uint32_t rows = static_cast<uint32_t>(std::min<uint64_t>(row_block, plan_.n - first_row));
    double* c = reinterpret_cast<double*>(worker.scratch(row_block * (panel_columns + depth_block) * sizeof(double)));
    reduce(first, panel_columns, first_row, rows, c, c + row_block * panel_columns);
    for (uint32_t r = 0; r < rows; r++) {
      kernels_.solve_row(c + r * panel_columns, diagonal_.get(), panel_columns);
      float* to = row(first_row + r) + first;
      for (uint32_t j = 0; j < panel_columns; j++) to[j] = static_cast<float>(c[r * panel_columns + j]);
    }
    for (uint32_t j = 0; j < panel_columns; j++) std::fill_n(row(first + j) + first_row, rows, 0.0f);
  }

  const CholeskyPlan plan_;
  const LinalgKernels& kernels_;
  const uint64_t strip_stride_;
  std::unique_ptr<double[]> panel_;     // the panel's rows left of its diagonal block, transposed, in strips
  std::unique_ptr<double[]> diagonal_;  // the diagonal block's factor, transposed
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_cholesky(uint64_t context, const apiq_cholesky_args* args) {
  return apiq::cpu::submit<apiq::cpu::Cholesky>(context, args);
}
