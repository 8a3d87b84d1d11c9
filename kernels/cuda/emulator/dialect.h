// The host's half of device.cuh: the same names, carried out by the block emulator.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <source_location>
#include <type_traits>

#include "../../common/half.h"
#include "block.h"
#include "fault.h"
#include "memory.h"

#define APIQ_DEVICE inline
#define APIQ_KERNEL(threads) [[maybe_unused]] static void
#define APIQ_UNROLL
// The static's address names the array, so all threads of a block get the same one.
#define APIQ_SHARED(type, name, count) \
  static const char name##_tag = 0;    \
  const ::apiq::cuda::Shared<type> name = ::apiq::cuda::Shared<type>::static_array(&name##_tag, count)

namespace apiq::cuda {

using emulator::current_block;
using emulator::Site;

template <class T>
struct alignas(16) Vec4 {
  T x, y, z, w;
};

inline uint32_t thread_index() { return current_block().thread(); }
inline uint32_t block_index_x() { return current_block().index_x(); }
inline uint32_t block_index_y() { return current_block().index_y(); }

inline void sync_block(const Site& site = Site::current()) { current_block().barrier(site); }
inline void sync_warp(const Site& site = Site::current()) { current_block().collect(emulator::Collective::sync_warp, 0, site); }

inline float shuffle_xor(float value, uint32_t lane_mask, const Site& site = Site::current()) {
  const uint32_t lane = current_block().lane();
  const auto& brought = current_block().collect(emulator::Collective::shuffle, std::bit_cast<uint32_t>(value), site);
  return std::bit_cast<float>(brought[lane ^ lane_mask]);
}
// A lane with no lane `delta` above it keeps its own value, as the instruction does.
inline float shuffle_down(float value, uint32_t delta, const Site& site = Site::current()) {
  const uint32_t lane = current_block().lane();
  const auto& brought = current_block().collect(emulator::Collective::shuffle, std::bit_cast<uint32_t>(value), site);
  return std::bit_cast<float>(brought[lane + delta < emulator::warp_size ? lane + delta : lane]);
}
inline uint32_t ballot(bool predicate, const Site& site = Site::current()) {
  const auto& brought = current_block().collect(emulator::Collective::ballot, predicate, site);
  uint32_t bits = 0;
  for (uint32_t lane = 0; lane < emulator::warp_size; lane++) bits |= brought[lane] << lane;
  return bits;
}

inline float fma(float a, float b, float c) { return std::fma(a, b, c); }
inline float square_root(float value) { return std::sqrt(value); }
inline float exponential(float value) { return std::exp(value); }
inline double cosine(double angle) { return std::cos(angle); }
inline double sine(double angle) { return std::sin(angle); }
inline float larger(float a, float b) { return std::fmax(a, b); }
inline float float_from_bits(uint32_t bits) { return std::bit_cast<float>(bits); }
inline float negative_infinity() { return -std::numeric_limits<float>::infinity(); }
inline float half_to_float(uint16_t half) { return to_float(f16{half}); }
inline uint16_t float_to_half(float value) { return to_f16(value).bits; }

template <class T>
class Global {
 public:
  Global() = default;
  Global(T* data, uint64_t count) : data_(data), count_(count) {
    if (data != nullptr) emulator::require_allocated(data, count * sizeof(T));
  }

  T load(uint64_t index) const { return *at(index, 1, "read"); }
  void store(uint64_t index, T value) const { *at(index, 1, "write") = value; }
  Vec4<std::remove_const_t<T>> load4(uint64_t index) const {
    const T* const first = aligned(index);
    return {first[0], first[1], first[2], first[3]};
  }
  bool present() const { return data_ != nullptr; }
  T add_atomically(uint64_t index, T value) const {
    T* const element = at(index, 1, "atomic access");
    const T before = *element;
    *element += value;
    return before;
  }
  Vec4<uint32_t> load4_once(uint64_t index) const {
    static_assert(std::is_same_v<std::remove_const_t<T>, uint32_t>);
    const T* const first = aligned(index);
    return {first[0], first[1], first[2], first[3]};
  }

 private:
  T* at(uint64_t index, uint64_t elements, const char* what) const {
    if (index > count_ || elements > count_ - index) {
      emulator::fault("global %s out of bounds: thread %u, element %llu of a span of %llu", what, current_block().thread(),
                      static_cast<unsigned long long>(index), static_cast<unsigned long long>(count_));
    }
    return data_ + index;
  }
  T* aligned(uint64_t index) const {
    static_assert(sizeof(T) == 4);
    T* const first = at(index, 4, "16-byte read");
    if (reinterpret_cast<uintptr_t>(first) % 16 != 0) {
      emulator::fault("misaligned 16-byte read: element %llu", static_cast<unsigned long long>(index));
    }
    return first;
  }

  T* data_ = nullptr;
  uint64_t count_ = 0;
};

template <class T>
class Shared {
  static_assert(sizeof(T) % 4 == 0, "the emulator watches shared memory in words of 4 bytes");

 public:
  Shared(uint32_t offset, uint32_t count) : offset_(offset), count_(count) {}
  static Shared static_array(const void* tag, uint32_t count) {
    return Shared(current_block().shared().static_array(tag, count * sizeof(T)), count);
  }

  T load(uint32_t index) const {
    T value;
    read(index, 1, &value);
    return value;
  }
  void store(uint32_t index, T value) const {
    check(index, 1, "write");
    current_block().shared().write(offset_ + index * sizeof(T), &value, sizeof(T), current_block().access());
  }
  Vec4<std::remove_const_t<T>> load4(uint32_t index) const {
    static_assert(sizeof(T) == 4);
    if ((offset_ + 4 * index) % 16 != 0) emulator::fault("misaligned 16-byte read: shared element %u", index);
    Vec4<std::remove_const_t<T>> value;
    read(index, 4, &value);
    return value;
  }

 private:
  void read(uint32_t index, uint32_t elements, void* target) const {
    check(index, elements, "read");
    current_block().shared().read(offset_ + index * sizeof(T), target, elements * sizeof(T), current_block().access());
  }
  void check(uint32_t index, uint32_t elements, const char* what) const {
    if (index > count_ || elements > count_ - index) {
      emulator::fault("shared %s out of bounds: thread %u, element %u of an array of %u", what, current_block().thread(), index, count_);
    }
  }

  uint32_t offset_;
  uint32_t count_;
};

template <class T>
Shared<T> dynamic_shared(uint32_t offset, uint32_t count) {
  const uint32_t available = current_block().shared().dynamic_bytes();
  if (offset > available || uint64_t{count} * sizeof(T) > available - offset) {
    emulator::fault("%u elements at byte %u reach past the %u bytes of dynamic shared memory", count, offset, available);
  }
  return Shared<T>(offset, count);
}

}  // namespace apiq::cuda
