// The rows of w do not touch each other, so an item is a strip of rows from the first column to the last. Every weight takes
// its errors one fma each, in the order of the columns they come from, in its own block as in later ones: the blocks do not
// show in the result.
#include "../../common/plans/gptq_quantize.h"
#include "../core/context.h"
#include "../linalg/kernels.h"
#include "report.h"

namespace apiq::cpu {
namespace {

class GptqQuantize final : public Op {
 public:
  GptqQuantize(const GptqQuantizePlan& plan, Isa isa)
      : plan_(plan),
        kernels_(linalg_kernels(isa)),
        // A group starts with a block, or lies in one.
        span_(plan.group > gptq_block ? plan.group : gptq_block / plan.group * plan.group) {}

  uint64_t items(uint32_t) const override { return (uint64_t{plan_.out_features} + gptq_rows - 1) / gptq_rows; }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker& worker) override {
    for (uint32_t i = 0; i < plan_.in_features; i++) {
      const float pivot = plan_.inverse_factor[uint64_t{i} * plan_.in_features + i];
      if (!(pivot > 0)) {
        return report(worker, APIQ_OUT_OF_RANGE,
                      "Cannot quantize: received %g as diagonal element %u of inverse_factor, expected a positive number",
                      static_cast<double>(pivot), i);
      }
    }
    for (uint64_t item = begin; item < end; item++) quantize(item * gptq_rows, worker);
  }

 private:
  struct Scratch {
    float w[gptq_block * gptq_rows];
    float errors[gptq_block * gptq_rows];
    float strip[gptq_block * 16];
    float scale[gptq_rows];
    float zero[gptq_rows];
    uint8_t q[gptq_block * gptq_rows];
  };

  void quantize(uint64_t first_row, Worker& worker) const {
    const uint32_t rows = static_cast<uint32_t>(std::min<uint64_t>(gptq_rows, plan_.out_features - first_row));
    const uint64_t range_bytes = uint64_t{plan_.group} * gptq_rows * sizeof(float);
    std::byte* memory = worker.scratch(sizeof(Scratch) + range_bytes);
    Scratch& scratch = *reinterpret_cast<Scratch*>(memory);
    float* range = reinterpret_cast<float*>(memory + sizeof(Scratch));
    const uint32_t in = plan_.in_features;
    for (uint32_t start = 0; start < in; start += span_) {
      const uint32_t end = std::min(start + span_, in);
      for (uint32_t first = start; first < end; first += gptq_block) {
        quantize_block(first_row, rows, first, std::min(first + gptq_block, end), scratch, range);
      }
    }
  }

  void quantize_block(uint64_t first_row, uint32_t rows, uint32_t first, uint32_t end, Scratch& scratch, float* range) const {
    const uint64_t in = plan_.in_features;
    const uint32_t columns = end - first;
    const uint64_t corner = first_row * in + first;
    const float* factor = plan_.inverse_factor + first * in + first;
    const GptqBlock block{scratch.w, scratch.errors, scratch.q, scratch.scale, scratch.zero, factor, in, plan_.bits};
    load_columns(corner, rows, columns, scratch.w);
    for (uint32_t c = 0; c < columns;) {
      const uint32_t next = std::min(columns, (first + c) / plan_.group * plan_.group + plan_.group - first);
      if ((first + c) % plan_.group == 0) {
        const bool inside = plan_.group <= columns - c;
        if (!inside) load_columns(corner, rows, plan_.group, range);
        kernels_.gptq_range(inside ? scratch.w + c * gptq_rows : range, plan_.group, plan_.bits, scratch.scale, scratch.zero);
        store_group(first_row, rows, (first + c) / plan_.group, scratch);
      }
      kernels_.gptq_columns(block, c, next, columns);
      c = next;
    }
    for (uint32_t r = 0; r < rows; r++) {
      for (uint32_t c = 0; c < columns; c++) {
        plan_.w[corner + r * in + c] = scratch.w[c * gptq_rows + r];
        plan_.q[corner + r * in + c] = scratch.q[c * gptq_rows + r];
      }
    }
    float* rest = plan_.w + corner + columns;
    kernels_.gptq_update(scratch.errors, columns, factor + columns, in, rest, in, rows, in - end, scratch.strip);
  }

  // Lanes of rows past the matrix hold zeros.
  void load_columns(uint64_t corner, uint32_t rows, uint32_t columns, float* to) const {
    for (uint32_t r = 0; r < gptq_rows; r++) {
      const float* from = plan_.w + corner + r * uint64_t{plan_.in_features};
      for (uint32_t c = 0; c < columns; c++) to[c * gptq_rows + r] = r < rows ? from[c] : 0.0f;
    }
  }

  void store_group(uint64_t first_row, uint32_t rows, uint32_t group, const Scratch& scratch) const {
    const uint64_t groups = plan_.in_features / plan_.group;
    for (uint32_t r = 0; r < rows; r++) {
      plan_.scale[(first_row + r) * groups + group] = scratch.scale[r];
      plan_.zero[(first_row + r) * groups + group] = scratch.zero[r];
    }
  }

  const GptqQuantizePlan plan_;
  const LinalgKernels& kernels_;
  const uint32_t span_;  // columns of whole groups that blocks divide
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_gptq_quantize(uint64_t context, const apiq_gptq_quantize_args* args) {
  return apiq::cpu::submit<apiq::cpu::GptqQuantize>(context, args);
}
