// apiq_linear.
#include "../../common/plans/linear.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "../core/context.h"
#include "../packed/matrices.h"

namespace apiq::cpu {
namespace {

// Phase `quantize` (where an affine part wants int8): items are (block of tokens, slice of its groups).
// Phase `multiply`: items are (span of rows, tile of 16 outputs of a part). A span is as many rows as keep their activations in the
// second-level cache while every tile passes by; a tile's weights stay in the first-level cache meanwhile.
class Linear final : public Op {
 public:
  Linear(const LinearPlan& plan, Isa isa) : plan_(plan), kernels_(packed_kernels(isa)), block_tokens_(kernels_.int8_tokens) {
    bool reads_floats = false;
    for (uint32_t i = 0; i < plan_.n_parts; i++) {
      const WeightPlan& weight = plan_.parts[i].weight;
      const bool int8 = weight.affine() && plan_.activations == APIQ_ACTIVATIONS_INT8;
      if (int8) group_ = weight.group;
      reads_floats |= !int8;
      first_tile_[i] = tiles_;
      tiles_ += affine_matrix(weight).tiles();
      weight_bytes_ += weight.packed() ? packed_bytes(weight) : uint64_t{weight.out_features} * weight.in_features * 2;
    }
    const uint64_t row_bytes = uint64_t{plan_.in_features} * (reads_floats ? sizeof(float) : 1);
    span_rows_ = static_cast<uint32_t>(std::clamp<uint64_t>(span_bytes / row_bytes / span_step * span_step, span_step, max_span_rows));
    if (quantizes()) {
      groups_ = plan_.in_features / group_;
      block_bytes_ = ActivationBlock::bytes(block_tokens_, plan_.in_features, groups_);
      slices_ = static_cast<uint32_t>(std::clamp<uint64_t>(uint64_t{block_tokens_} * plan_.in_features / quantize_grain, 1, groups_));
      activations_.reset(static_cast<std::byte*>(std::aligned_alloc(64, blocks() * block_bytes_)));
      if (activations_ == nullptr) throw std::bad_alloc();
    }
  }

  uint32_t phases() const override { return quantizes() ? 2 : 1; }

  uint64_t items(uint32_t phase) const override {
    return is_quantize(phase) ? blocks() * slices_ : tiles_ * ((uint64_t{plan_.rows} + span_rows_ - 1) / span_rows_);
  }

  uint64_t grain(uint32_t phase) const override {
    if (is_quantize(phase)) return std::max<uint64_t>(1, quantize_grain * slices_ / (uint64_t{block_rows(0)} * plan_.in_features));
    const uint64_t tile_bytes = weight_bytes_ / tiles_ * ((std::min(plan_.rows, span_rows_) + span_step - 1) / span_step);
    return std::clamp<uint64_t>(stream_grain / std::max<uint64_t>(tile_bytes, 1), 1, std::max<uint64_t>(1, tiles_ / 8));
  }

  void run(uint32_t phase, uint64_t begin, uint64_t end, Worker&) override {
    for (uint64_t item = begin; item < end; item++) {
      if (is_quantize(phase)) {
        quantize(item / slices_, static_cast<uint32_t>(item % slices_));
      } else {
        multiply(static_cast<uint32_t>(item / tiles_) * span_rows_, item % tiles_);
      }
    }
  }

 private:
  static constexpr uint64_t span_bytes = 256u << 10;
  static constexpr uint32_t span_step = 8;  // a multiple of every kernel's tokens
  static constexpr uint32_t max_span_rows = 4096;
  static constexpr uint64_t stream_grain = 64u << 10;    // bytes of weights a thread takes at once
  static constexpr uint64_t quantize_grain = 16u << 10;  // values; below this a barrier costs more than a second thread saves

  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };

  bool quantizes() const { return group_ != 0; }
  bool is_quantize(uint32_t phase) const { return quantizes() && phase == 0; }
  uint64_t blocks() const { return (uint64_t{plan_.rows} + block_tokens_ - 1) / block_tokens_; }
  uint32_t block_rows(uint64_t block) const {
    return static_cast<uint32_t>(std::min<uint64_t>(block_tokens_, plan_.rows - block * block_tokens_));
  }
  ActivationBlock block(uint64_t index) const {
    return ActivationBlock::at(activations_.get() + index * block_bytes_, block_rows(index), plan_.in_features, groups_);
  }

  void quantize(uint64_t index, uint32_t slice) {
    const uint32_t first = static_cast<uint32_t>(uint64_t{groups_} * slice / slices_);
    const uint32_t end = static_cast<uint32_t>(uint64_t{groups_} * (slice + 1) / slices_);
    kernels_.quantize(plan_.x + index * block_tokens_ * plan_.in_features, plan_.in_features, group_, first, end, block(index));
  }

  void multiply(uint32_t first_row, uint64_t tile) const {
    uint32_t i = plan_.n_parts - 1;
    while (tile < first_tile_[i]) i--;
    tile -= first_tile_[i];
    const LinearPlan::Part& part = plan_.parts[i];
    const uint32_t end_row = std::min(plan_.rows, first_row + span_rows_);
    const bool int8 = part.weight.affine() && quantizes();
    const uint32_t step = int8 ? block_tokens_ : part.weight.affine() ? kernels_.affine_tokens : kernels_.dense_tokens;
    const uint64_t column = tile * tile_rows;
    Output output{nullptr, part.weight.out_features, part.bias == nullptr ? nullptr : part.bias + column,
                  static_cast<uint32_t>(std::min<uint64_t>(tile_rows, part.weight.out_features - column))};
    if (part.weight.lut()) {
      output.y = part.y + uint64_t{first_row} * part.weight.out_features + column;
      const float* const x = plan_.x + uint64_t{first_row} * plan_.in_features;
      return kernels_.lut(lut_matrix(part.weight), tile, x, plan_.in_features, end_row - first_row, output);
    }
    for (uint32_t row = first_row; row < end_row; row += step) {
      output.y = part.y + uint64_t{row} * part.weight.out_features + column;
      const float* const x = plan_.x + uint64_t{row} * plan_.in_features;
      const uint32_t tokens = std::min(step, end_row - row);
      if (int8) {
        kernels_.affine_int8(affine_matrix(part.weight), tile, block(row / block_tokens_), output);
      } else if (part.weight.affine()) {
        kernels_.affine_f32(affine_matrix(part.weight), tile, x, plan_.in_features, tokens, output);
      } else {
        kernels_.dense(dense_matrix(part.weight), tile, x, plan_.in_features, tokens, output);
      }
    }
  }

  LinearPlan plan_;
  const PackedKernels& kernels_;
  uint32_t block_tokens_;
  uint32_t group_ = 0;  // of the quantized activations; 0: nothing wants them
  uint32_t groups_ = 0;
  uint32_t slices_ = 1;
  uint32_t span_rows_ = 0;
  uint64_t tiles_ = 0;  // of all parts
  uint64_t first_tile_[APIQ_MAX_PARTS] = {};
  uint64_t weight_bytes_ = 0;
  uint64_t block_bytes_ = 0;
  std::unique_ptr<std::byte, Free> activations_;
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_linear(uint64_t context, const apiq_linear_args* args) {
  return apiq::cpu::submit<apiq::cpu::Linear>(context, args);
}
