// The border between C and C++: every exported function runs its body through `guarded`, which lets no exception out.
#pragma once

#include <cstring>
#include <new>
#include <string>

#include "failure.h"

namespace apiq {

// Text of the last failure of a call without a (valid) context, per thread.
std::string& thread_error();

// Copies `text` into the caller's memory as far as it fits and reports its whole length.
inline void copy_text(const std::string& text, uint8_t* target, uint64_t capacity, uint64_t* bytes) {
  APIQ_REQUIRE(bytes != nullptr && (target != nullptr || capacity == 0), "a text's target and length must not be null");
  *bytes = text.size();
  if (capacity != 0) std::memcpy(target, text.data(), text.size() < capacity ? text.size() : capacity);
}

template <class Body>
apiq_status guarded(std::string& error, Body&& body) noexcept {
  try {
    body();
    return APIQ_OK;
  } catch (const Failure& failure) {
    error = failure.text;
    return failure.status;
  } catch (const std::bad_alloc&) {
    error = "out of host memory";
    return APIQ_OUT_OF_MEMORY;
  } catch (const std::exception& exception) {
    error = exception.what();
    return APIQ_INTERNAL;
  } catch (...) {
    error = "unknown failure";
    return APIQ_INTERNAL;
  }
}

}  // namespace apiq
