// clip_range and its backward.
#include <algorithm>

#include "../../common/plans/quantizer.h"
#include "../core/context.h"
#include "../isa/training_kernels.h"

namespace apiq::cpu {
namespace {

// A group costs two exponentials, as much as dozens of elements elsewhere.
constexpr uint64_t groups_per_item = 1024;

// Calls f(first group, number of groups) for the items [begin, end).
template <class F>
void each_groups(uint64_t begin, uint64_t end, uint64_t count, F f) {
  const uint64_t first = begin * groups_per_item;
  f(first, std::min(end * groups_per_item, count) - first);
}

float top_of(uint32_t bits) { return static_cast<float>((1u << bits) - 1); }
const float* part_of(const float* factors, uint64_t first) { return factors == nullptr ? nullptr : factors + first; }

class ClipRange final : public Op {
 public:
  ClipRange(const ClipRangePlan& plan, Isa isa) : plan_(plan), kernels_(training_kernels(isa)) {}

  uint64_t items(uint32_t) const override { return (plan_.count + groups_per_item - 1) / groups_per_item; }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker&) override {
    each_groups(begin, end, plan_.count, [&](uint64_t first, uint64_t n) {
      kernels_.clip_range(plan_.low + first, plan_.high + first, part_of(plan_.low_factor, first),
                          part_of(plan_.high_factor, first), plan_.scale + first, plan_.zero + first, n, top_of(plan_.bits),
                          plan_.round_scale);
    });
  }

 private:
  const ClipRangePlan plan_;
  const TrainingKernels& kernels_;
};

class ClipRangeBackward final : public Op {
 public:
  ClipRangeBackward(const ClipRangeBackwardPlan& plan, Isa isa) : plan_(plan), kernels_(training_kernels(isa)) {}

  uint64_t items(uint32_t) const override { return (plan_.count + groups_per_item - 1) / groups_per_item; }

  void run(uint32_t, uint64_t begin, uint64_t end, Worker&) override {
    each_groups(begin, end, plan_.count, [&](uint64_t first, uint64_t n) {
      kernels_.clip_range_backward(plan_.low + first, plan_.high + first, plan_.low_factor + first, plan_.high_factor + first,
                                   plan_.dscale + first, plan_.dlow_factor + first, plan_.dhigh_factor + first, n,
                                   top_of(plan_.bits));
    });
  }

 private:
  const ClipRangeBackwardPlan plan_;
  const TrainingKernels& kernels_;
};

}  // namespace
}  // namespace apiq::cpu

extern "C" apiq_status apiq_clip_range(uint64_t context, const apiq_clip_range_args* args) {
  return apiq::cpu::submit<apiq::cpu::ClipRange>(context, args);
}

extern "C" apiq_status apiq_clip_range_backward(uint64_t context, const apiq_clip_range_backward_args* args) {
  return apiq::cpu::submit<apiq::cpu::ClipRangeBackward>(context, args);
}
