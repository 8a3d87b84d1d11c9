// fake_quantize and its backward: each one pass over the matrix.
#include "../../common/plans/quantizer.h"
#include "../core/context.h"
#include "../isa/training_kernels.h"
#include "elementwise_items.h"

namespace apiq::cpu {
namespace {

// An item is a run of whole groups.
uint64_t groups_per_item(const QuantizerInputs& inputs) { return rows_per_item(inputs.group); }

uint64_t group_items(const QuantizerInputs& inputs) {
  return (inputs.groups + groups_per_item(inputs) - 1) / groups_per_item(inputs);
}

// The groups of items [begin, end).
QuantizerGroups groups_of(const QuantizerInputs& inputs, uint64_t begin, uint64_t end) {
  const uint64_t first = begin * groups_per_item(inputs);
  return {.w = inputs.w + first * inputs.group,
          .scale = inputs.scale + first,
          .zero = inputs.zero + first,
          .groups = std::min(end * groups_per_item(inputs), inputs.groups) - first,
          .group = inputs.group,
          .top = static_cast<float>((1u << inputs.bits) - 1),
          .clamp_zero = inputs.clamp_zero};
}

template <class T>
T* part_of(T* tensor, uint64_t first) {
  return tensor == nullptr ? nullptr : tensor + first;
}

class FakeQuantize final : public Op {
 public:
  FakeQuantize(const FakeQuantizePlan& plan, Isa isa) : plan_(plan), kernels_(training_kernels(isa)) {}

  uint64_t items(uint32_t) const override { return group_items(plan_.inputs); }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker&) override {
    const uint64_t at = begin * groups_per_item(plan_.inputs) * plan_.inputs.group;
    kernels_.fake_quantize(groups_of(plan_.inputs, begin, end), part_of(plan_.y, at), part_of(plan_.q, at));
  }

 private:
  const FakeQuantizePlan plan_;
  const TrainingKernels& kernels_;
};

class FakeQuantizeBackward final : public Op {
 public:
  FakeQuantizeBackward(const FakeQuantizeBackwardPlan& plan, Isa isa) : plan_(plan), kernels_(training_kernels(isa)) {}

  uint64_t items(uint32_t) const override { return group_items(plan_.inputs); }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker&) override {
    const uint64_t first = begin * groups_per_item(plan_.inputs);
    const uint64_t at = first * plan_.inputs.group;
    kernels_.fake_quantize_backward(groups_of(plan_.inputs, begin, end), plan_.dy + at, part_of(plan_.dw, at), plan_.dscale + first,
                                    part_of(plan_.dzero, first), plan_.edges_inside);
  }

 private:
  const FakeQuantizeBackwardPlan plan_;
  const TrainingKernels& kernels_;
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_fake_quantize(uint64_t context, const apiq_fake_quantize_args* args) {
  return apiq::cpu::submit<apiq::cpu::FakeQuantize>(context, args);
}

extern "C" apiq_status apiq_fake_quantize_backward(uint64_t context, const apiq_fake_quantize_backward_args* args) {
  return apiq::cpu::submit<apiq::cpu::FakeQuantizeBackward>(context, args);
}
