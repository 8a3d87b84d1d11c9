// The emulated device's memory: host memory whose allocations are known, so that a kernel's spans can be checked.
#pragma once

#include <cstddef>
#include <cstdint>

namespace apiq::emulator {

constexpr uint64_t device_bytes = uint64_t{64} << 30;  // what an allocation may ask for at most

// Zero-filled, 256-byte aligned as cudaMalloc's. Throws std::bad_alloc.
std::byte* allocate(uint64_t bytes);
void release(std::byte* data);
// Faults unless [data, data + bytes) lies in one live allocation.
void require_allocated(const void* data, uint64_t bytes);

}  // namespace apiq::emulator
