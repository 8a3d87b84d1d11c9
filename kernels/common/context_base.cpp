#include "context_base.h"

#include <atomic>
#include <cinttypes>

namespace apiq {

uint64_t next_handle() {
  static std::atomic<uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

uint64_t checked_mul(uint64_t a, uint64_t b, const char* name) {
  uint64_t product;
  if (__builtin_mul_overflow(a, b, &product)) fail(APIQ_INVALID_ARGUMENT, "%s: %" PRIu64 " x %" PRIu64 " elements overflow", name, a, b);
  return product;
}

Buffer& ContextBase::buffer(uint64_t handle, const char* what) {
  const auto found = buffers_.find(handle);
  if (found == buffers_.end()) fail(APIQ_INVALID_HANDLE, "%s: no buffer %" PRIu64 " in this context", what, handle);
  return found->second;
}

std::byte* ContextBase::resolve(const apiq_ref& ref, uint64_t count, uint64_t size, uint64_t alignment, const char* name, bool write) {
  const Buffer& found = buffer(ref.buffer, name);
  const uint64_t bytes = checked_mul(count, size, name);
  if (ref.offset > found.bytes || bytes > found.bytes - ref.offset) {
    fail(APIQ_OUT_OF_RANGE, "%s: %" PRIu64 " bytes at offset %" PRIu64 " reach past the buffer's %" PRIu64, name, bytes, ref.offset, found.bytes);
  }
  if (write && !found.writable) fail(APIQ_INVALID_ARGUMENT, "%s: the buffer is a mapped file, which is read-only", name);
  std::byte* address = found.data + ref.offset;
  if (reinterpret_cast<uintptr_t>(address) % alignment != 0) {
    fail(APIQ_INVALID_ARGUMENT, "%s: offset %" PRIu64 " is not aligned to %" PRIu64 " bytes", name, ref.offset, alignment);
  }
  if (recording_) recorded_buffers_.push_back(ref.buffer);
  return address;
}

uint64_t ContextBase::add_buffer(Buffer buffer) {
  const uint64_t handle = next_handle();
  buffers_.emplace(handle, buffer);
  return handle;
}

uint64_t ContextBase::add_view(uint64_t parent, uint64_t offset, uint64_t bytes) {
  Buffer& whole = buffer(parent);
  if (offset > whole.bytes || bytes > whole.bytes - offset) {
    fail(APIQ_OUT_OF_RANGE, "view: %" PRIu64 " bytes at offset %" PRIu64 " reach past the buffer's %" PRIu64, bytes, offset, whole.bytes);
  }
  Buffer view;
  view.data = whole.data + offset;
  view.bytes = bytes;
  view.parent = parent;
  view.writable = whole.writable;
  view.mapped = whole.mapped;
  whole.views++;
  return add_buffer(view);
}

Buffer ContextBase::remove_buffer(uint64_t handle) {
  const Buffer removed = buffer(handle);
  if (removed.views != 0) fail(APIQ_INVALID_STATE, "buffer %" PRIu64 " still has %u views: free them first", handle, removed.views);
  if (removed.parent != 0) buffer(removed.parent).views--;
  buffers_.erase(handle);
  frees_++;
  return removed;
}

}  // namespace apiq
