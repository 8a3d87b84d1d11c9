// A context of the emulated library, driven through apiq.h as the runtime does it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apiq.h"
#include "check.h"

namespace apiq::test {

inline std::string last_error(uint64_t context) {
  uint8_t text[1024];
  uint64_t bytes = 0;
  apiq_last_error(context, text, sizeof text, &bytes);
  return std::string(reinterpret_cast<const char*>(text), bytes < sizeof text ? bytes : sizeof text);
}

class Session {
 public:
  Session() {
    const apiq_context_options options{0, 0, 0, 0};
    ok(apiq_context_create(&options, &context), "context_create");
  }
  ~Session() { apiq_context_destroy(context); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void ok(apiq_status status, const char* what) const {
    check(status == APIQ_OK, std::string(what) + ": status " + std::to_string(status) + ", " + last_error(context));
  }
  // The call failed with this status, and its text contains `part`.
  void refused(apiq_status received, apiq_status expected, const std::string& part) const {
    const std::string text = last_error(context);
    check(received == expected, "status " + std::to_string(received) + " (" + text + "), expected " + std::to_string(expected));
    check_contains(text, part);
  }

  apiq_ref zeros(uint64_t bytes) const {
    apiq_ref ref{0, 0};
    ok(apiq_buffer_alloc(context, bytes, &ref.buffer), "buffer_alloc");
    return ref;
  }
  template <class T>
  apiq_ref put(const std::vector<T>& values) const {
    const apiq_ref ref = zeros(values.size() * sizeof(T));
    set(ref, values);
    return ref;
  }
  template <class T>
  void set(const apiq_ref& ref, const std::vector<T>& values) const {
    ok(apiq_buffer_upload(context, ref.buffer, ref.offset, values.data(), values.size() * sizeof(T)), "buffer_upload");
  }
  template <class T>
  std::vector<T> get(const apiq_ref& ref, uint64_t count) const {
    std::vector<T> values(count);
    ok(apiq_buffer_download(context, ref.buffer, ref.offset, values.data(), count * sizeof(T)), "buffer_download");
    return values;
  }

  uint64_t context = 0;
};

}  // namespace apiq::test
