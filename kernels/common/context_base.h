// What both backends' contexts share: the buffer table and the resolution of refs into checked addresses.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "failure.h"

namespace apiq {

// A range of memory of the backend: owned, mapped from a file, or a window of another buffer.
struct Buffer {
  std::byte* data = nullptr;  // a device address where the backend is a device
  uint64_t bytes = 0;
  uint64_t parent = 0;      // handle of the buffer this is a view of
  uint32_t views = 0;       // live views of this buffer
  bool writable = true;     // mapped files are not
  bool mapped = false;
  void* mapping = nullptr;  // what was mapped, page-aligned
  uint64_t mapping_bytes = 0;
};

class ContextBase {
 public:
  virtual ~ContextBase() = default;

  Buffer& buffer(uint64_t handle, const char* what = "buffer");

  // The address of `count` elements of T at `ref`; fails unless all of them lie in the buffer, aligned to T.
  // `name` is the argument's name in apiq.h and appears in the error.
  template <class T>
  const T* in(const apiq_ref& ref, uint64_t count, const char* name, uint64_t alignment = alignof(T)) {
    return reinterpret_cast<const T*>(resolve(ref, count, sizeof(T), alignment, name, false));
  }
  template <class T>
  T* out(const apiq_ref& ref, uint64_t count, const char* name, uint64_t alignment = alignof(T)) {
    return reinterpret_cast<T*>(resolve(ref, count, sizeof(T), alignment, name, true));
  }
  // Same, but an absent ref ({0, 0}) gives null.
  template <class T>
  const T* in_optional(const apiq_ref& ref, uint64_t count, const char* name) {
    return ref.buffer == 0 && ref.offset == 0 ? nullptr : in<T>(ref, count, name);
  }
  template <class T>
  T* out_optional(const apiq_ref& ref, uint64_t count, const char* name) {
    return ref.buffer == 0 && ref.offset == 0 ? nullptr : out<T>(ref, count, name);
  }

  std::string last_error;

 protected:
  std::byte* resolve(const apiq_ref& ref, uint64_t count, uint64_t size, uint64_t alignment, const char* name, bool write);

  uint64_t add_buffer(Buffer buffer);
  uint64_t add_view(uint64_t parent, uint64_t offset, uint64_t bytes);
  // Takes the buffer out of the table; the caller frees its memory unless it is a view.
  Buffer remove_buffer(uint64_t handle);

  std::unordered_map<uint64_t, Buffer> buffers_;
  uint64_t frees_ = 0;                  // how many buffers were ever freed: graphs recheck theirs when it moved
  bool recording_ = false;
  std::vector<uint64_t> recorded_buffers_;  // handles resolved since graph_begin
};

// a * b, or a failure when it does not fit: shapes come from outside.
uint64_t checked_mul(uint64_t a, uint64_t b, const char* name);

// The next handle of the process: never 0, never reused.
uint64_t next_handle();

}  // namespace apiq
