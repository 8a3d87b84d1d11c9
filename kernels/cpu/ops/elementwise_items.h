// How elementwise ops are cut into items: big enough that handing one out costs little, small enough that threads share a batch.
#pragma once

#include <algorithm>
#include <cstdint>

namespace apiq::cpu {

constexpr uint64_t elements_per_item = 16384;

// Calls f(first element, number of elements) for the items [begin, end) of `count` elements.
template <class F>
void each_range(uint64_t begin, uint64_t end, uint64_t count, F f) {
  const uint64_t first = begin * elements_per_item;
  f(first, std::min(end * elements_per_item, count) - first);
}

constexpr uint64_t elementwise_items(uint64_t count) { return (count + elements_per_item - 1) / elements_per_item; }

// How many rows of `cols` elements make an item of that size.
constexpr uint64_t rows_per_item(uint64_t cols) { return std::max<uint64_t>(1, elements_per_item / cols); }

}  // namespace apiq::cpu
