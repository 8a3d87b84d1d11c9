#include "shared_memory.h"

#include <cstring>

#include "fault.h"

namespace apiq::emulator {
namespace {

constexpr std::byte poison{0xff};  // a float32 or float16 of these bytes is a NaN

bool same_warp(uint32_t a, uint32_t b) { return a / warp_size == b / warp_size; }

// Whether a barrier of the block or of their common warp, or the order of one thread, puts `earlier` before `later`.
bool ordered(const Access& earlier, const Access& later) {
  if (earlier.block_epoch < later.block_epoch || earlier.thread == later.thread) return true;
  return same_warp(earlier.thread, later.thread) && earlier.warp_epoch < later.warp_epoch;
}

}  // namespace

void SharedMemory::reset(uint32_t dynamic_bytes) {
  bytes_.clear();
  shadows_.clear();
  arrays_.clear();
  dynamic_bytes_ = dynamic_bytes;
  grow(dynamic_bytes);
}

void SharedMemory::grow(uint32_t bytes) {
  const size_t total = bytes_.size() + (bytes + 15) / 16 * 16;
  if (total > max_shared_bytes) fault("%zu bytes of shared memory, a block may have %u", total, max_shared_bytes);
  bytes_.resize(total, poison);
  shadows_.resize(total / 4);
}

uint32_t SharedMemory::static_array(const void* tag, uint32_t bytes) {
  for (const StaticArray& array : arrays_) {
    if (array.tag == tag) return array.offset;
  }
  const uint32_t offset = static_cast<uint32_t>(bytes_.size());
  grow(bytes);
  arrays_.push_back({tag, offset});
  return offset;
}

void SharedMemory::read(uint32_t offset, void* target, uint32_t bytes, const Access& by) {
  for (uint32_t word = offset / 4; word < (offset + bytes) / 4; word++) {
    Shadow& shadow = shadows_[word];
    if (!shadow.written) fault("thread %u reads shared byte %u, which nobody wrote", by.thread, 4 * word);
    if (!ordered(shadow.write, by)) {
      fault("missing barrier: thread %u reads shared byte %u, written by thread %u since the last barrier", by.thread, 4 * word,
            shadow.write.thread);
    }
    const bool first_since_barrier = shadow.readers == Readers::none || shadow.read.block_epoch < by.block_epoch ||
                                     (shadow.readers != Readers::block && same_warp(shadow.read.thread, by.thread) &&
                                      shadow.read.warp_epoch < by.warp_epoch);
    if (first_since_barrier) {
      shadow.readers = Readers::one;
    } else if (!same_warp(shadow.read.thread, by.thread)) {
      shadow.readers = Readers::block;
    } else if (shadow.readers == Readers::one && shadow.read.thread != by.thread) {
      shadow.readers = Readers::warp;
    }
    shadow.read = by;
  }
  std::memcpy(target, bytes_.data() + offset, bytes);
}

void SharedMemory::write(uint32_t offset, const void* source, uint32_t bytes, const Access& by) {
  for (uint32_t word = offset / 4; word < (offset + bytes) / 4; word++) {
    Shadow& shadow = shadows_[word];
    if (shadow.written && !ordered(shadow.write, by)) {
      fault("missing barrier: threads %u and %u both write shared byte %u between two barriers", shadow.write.thread, by.thread, 4 * word);
    }
    const bool same_epoch = shadow.read.block_epoch == by.block_epoch;
    const bool others_read = (shadow.readers == Readers::block && same_epoch) ||
                             (shadow.readers == Readers::warp && same_epoch &&
                              (!same_warp(shadow.read.thread, by.thread) || shadow.read.warp_epoch == by.warp_epoch)) ||
                             (shadow.readers == Readers::one && !ordered(shadow.read, by));
    if (others_read) {
      fault("missing barrier: thread %u writes shared byte %u, read by thread %u since the last barrier", by.thread, 4 * word,
            shadow.read.thread);
    }
    shadow.written = true;
    shadow.write = by;
    shadow.readers = Readers::none;
  }
  std::memcpy(bytes_.data() + offset, source, bytes);
}

}  // namespace apiq::emulator
