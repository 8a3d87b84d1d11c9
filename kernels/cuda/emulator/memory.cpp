#include "memory.h"

#include <cinttypes>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

#include "fault.h"

namespace apiq::emulator {
namespace {

constexpr uint64_t alignment = 256;

std::mutex lock;
std::map<uintptr_t, uint64_t> allocations;  // bytes by address

}  // namespace

std::byte* allocate(uint64_t bytes) {
  if (bytes > device_bytes) throw std::bad_alloc();
  const uint64_t rounded = (bytes + alignment) / alignment * alignment;
  auto* const data = static_cast<std::byte*>(std::aligned_alloc(alignment, rounded));
  if (data == nullptr) throw std::bad_alloc();
  std::memset(data, 0, rounded);
  const std::lock_guard guard(lock);
  allocations.emplace(reinterpret_cast<uintptr_t>(data), bytes);
  return data;
}

void release(std::byte* data) {
  {
    const std::lock_guard guard(lock);
    allocations.erase(reinterpret_cast<uintptr_t>(data));
  }
  std::free(data);
}

void require_allocated(const void* data, uint64_t bytes) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(data);
  const std::lock_guard guard(lock);
  auto found = allocations.upper_bound(address);
  if (found != allocations.begin()) {
    --found;
    const uint64_t offset = address - found->first;
    if (offset <= found->second && bytes <= found->second - offset) return;
  }
  fault("a span of %" PRIu64 " bytes lies in no allocation of the device", bytes);
}

}  // namespace apiq::emulator
