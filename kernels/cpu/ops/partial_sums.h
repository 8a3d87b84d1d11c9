// A sum over all elements of a tensor, the same on any number of threads: one partial sum an item, added up in order in a second
// phase.
#pragma once

#include <numeric>
#include <vector>

#include "../core/op.h"
#include "elementwise_items.h"

namespace apiq::cpu {

class PartialSums {
 public:
  explicit PartialSums(uint64_t count) : count_(count), sums_(elementwise_items(count)) {}

  // Phase 0 has an item for every partial sum, phase 1 one item.
  uint64_t items(uint32_t phase) const { return phase == 0 ? sums_.size() : 1; }

  // Phase 0: sums[item] = f(first element, number of elements).
  template <class F>
  void each(uint64_t begin, uint64_t end, F f) {
    for (uint64_t item = begin; item < end; item++) {
      each_range(item, item + 1, count_, [&](uint64_t first, uint64_t n) { sums_[item] = f(first, n); });
    }
  }

  // Phase 1.
  double total() const { return std::accumulate(sums_.begin(), sums_.end(), 0.0); }

 private:
  const uint64_t count_;
  std::vector<double> sums_;
};

}  // namespace apiq::cpu
