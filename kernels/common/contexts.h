// The contexts of a library, by handle, and the way into one from an exported function.
#pragma once

#include <cinttypes>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "context_base.h"
#include "entry.h"

namespace apiq {

// The lock guards the table only: a context is used from one thread at a time.
template <class Context>
struct Contexts {
  std::mutex lock;
  std::unordered_map<uint64_t, std::unique_ptr<Context>> by_handle;

  static Contexts& all() {
    static Contexts* const table = new Contexts;  // never destroyed: threads may outlive main
    return *table;
  }

  // Fails with INVALID_HANDLE.
  Context& find(uint64_t handle) {
    const std::lock_guard guard(lock);
    const auto found = by_handle.find(handle);
    if (found == by_handle.end()) fail(APIQ_INVALID_HANDLE, "no context %" PRIu64, handle);
    return *found->second;
  }
};

// Runs `body(context)` as the body of an exported function.
template <class Context, class Body>
apiq_status enter_context(uint64_t handle, Body&& body) noexcept {
  Context* context = nullptr;
  const apiq_status found = guarded(thread_error(), [&] { context = &Contexts<Context>::all().find(handle); });
  if (found != APIQ_OK) return found;
  return guarded(context->last_error, [&] {
    context->make_current();
    body(*context);
  });
}

}  // namespace apiq
