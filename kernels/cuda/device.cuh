// The dialect kernels are written in: everything that is not plain C++ (memory spaces, barriers, warp collectives, PTX) is here
// and nowhere else, each with an equivalent for the host. nvcc compiles a kernel with the first half of this file; with
// APIQ_EMULATED an ordinary C++ compiler compiles the same kernel with the second half, to run under emulator/.
//
// Kernels never see raw pointers: Global<T> and Shared<T> are spans. On the device they are a pointer and cost nothing; in
// emulation they know their length, and every access is checked. All arithmetic is spelled out (fma where one is meant, and
// nvcc runs with -fmad=false), so both sides round alike, save in exp.
#pragma once

#include <cstdint>
#include <type_traits>

#if defined(APIQ_EMULATED)
#include "emulator/dialect.h"
#else

#define APIQ_DEVICE __device__ __forceinline__
// A kernel for blocks of exactly `threads` threads.
#define APIQ_KERNEL(threads) static __global__ void __launch_bounds__(threads)
// Before a loop of constant length whose body wants its counter as a constant.
#define APIQ_UNROLL _Pragma("unroll")
// An array in shared memory, uninitialised: APIQ_SHARED(float, sums, 32) declares `sums`, a Shared<float>.
#define APIQ_SHARED(type, name, count)                    \
  __shared__ alignas(16) type name##_storage[count];      \
  const ::apiq::cuda::Shared<type> name(name##_storage)

namespace apiq::cuda {

// Four 4-byte values that move in one 16-byte access.
template <class T>
struct alignas(16) Vec4 {
  T x, y, z, w;
};

APIQ_DEVICE uint32_t thread_index() { return threadIdx.x; }
APIQ_DEVICE uint32_t block_index_x() { return blockIdx.x; }
APIQ_DEVICE uint32_t block_index_y() { return blockIdx.y; }

APIQ_DEVICE void sync_block() { __syncthreads(); }
APIQ_DEVICE void sync_warp() { __syncwarp(); }
APIQ_DEVICE float shuffle_xor(float value, uint32_t lane_mask) {
  return __shfl_xor_sync(0xffffffffu, value, static_cast<int>(lane_mask));
}
APIQ_DEVICE float shuffle_down(float value, uint32_t delta) { return __shfl_down_sync(0xffffffffu, value, delta); }
APIQ_DEVICE uint32_t ballot(bool predicate) { return __ballot_sync(0xffffffffu, predicate); }

APIQ_DEVICE float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
APIQ_DEVICE float square_root(float value) { return __fsqrt_rn(value); }
APIQ_DEVICE float exponential(float value) { return expf(value); }
APIQ_DEVICE double cosine(double angle) { return cos(angle); }
APIQ_DEVICE double sine(double angle) { return sin(angle); }
APIQ_DEVICE float larger(float a, float b) { return fmaxf(a, b); }
APIQ_DEVICE float float_from_bits(uint32_t bits) { return __uint_as_float(bits); }
APIQ_DEVICE float negative_infinity() { return __uint_as_float(0xff800000u); }

APIQ_DEVICE float half_to_float(uint16_t half) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
  return value;
}

// To the nearest, ties to even.
APIQ_DEVICE uint16_t float_to_half(float value) {
  uint16_t half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
  return half;
}

template <class T>
class Global {
 public:
  Global() = default;
  Global(T* data, uint64_t count) : data_(data) { static_cast<void>(count); }

  APIQ_DEVICE T load(uint64_t index) const { return data_[index]; }
  APIQ_DEVICE void store(uint64_t index, T value) const { data_[index] = value; }
  // Elements index .. index + 3 of a 4-byte type; the address is a multiple of 16.
  APIQ_DEVICE Vec4<std::remove_const_t<T>> load4(uint64_t index) const {
    return *reinterpret_cast<const Vec4<std::remove_const_t<T>>*>(data_ + index);
  }
  APIQ_DEVICE bool present() const { return data_ != nullptr; }
  // Returns what the element was before.
  APIQ_DEVICE T add_atomically(uint64_t index, T value) const { return atomicAdd(data_ + index, value); }
  // load4 for data that is read once: it does not displace anything in the first cache level.
  APIQ_DEVICE Vec4<uint32_t> load4_once(uint64_t index) const {
    Vec4<uint32_t> v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(data_ + index));
    return v;
  }

 private:
  T* data_ = nullptr;
};

template <class T>
class Shared {
 public:
  APIQ_DEVICE explicit Shared(T* data) : data_(data) {}

  APIQ_DEVICE T load(uint32_t index) const { return data_[index]; }
  APIQ_DEVICE void store(uint32_t index, T value) const { data_[index] = value; }
  APIQ_DEVICE Vec4<std::remove_const_t<T>> load4(uint32_t index) const {
    return *reinterpret_cast<const Vec4<std::remove_const_t<T>>*>(data_ + index);
  }

 private:
  T* data_;
};

// `count` elements at a byte offset of the block's dynamic shared memory.
template <class T>
APIQ_DEVICE Shared<T> dynamic_shared(uint32_t offset, uint32_t /*count*/) {
  extern __shared__ __align__(16) unsigned char apiq_dynamic_shared[];
  return Shared<T>(reinterpret_cast<T*>(apiq_dynamic_shared + offset));
}

}  // namespace apiq::cuda

#endif

namespace apiq::cuda {

constexpr uint32_t warp_threads = 32;

APIQ_DEVICE float bfloat_to_float(uint16_t bits) { return float_from_bits(static_cast<uint32_t>(bits) << 16); }

// Butterflies: every lane gets the same bits, and the tree is the same on every call.
APIQ_DEVICE float warp_sum(float value) {
  for (uint32_t distance = warp_threads / 2; distance != 0; distance /= 2) value += shuffle_xor(value, distance);
  return value;
}
APIQ_DEVICE float warp_max(float value) {
  for (uint32_t distance = warp_threads / 2; distance != 0; distance /= 2) value = larger(value, shuffle_xor(value, distance));
  return value;
}

}  // namespace apiq::cuda
