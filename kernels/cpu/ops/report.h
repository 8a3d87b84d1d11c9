#pragma once

#include <cstdarg>
#include <cstdio>

#include "../core/op.h"

namespace apiq::cpu {

// Worker::fail with a formatted text.
[[gnu::format(printf, 3, 4)]] inline void report(Worker& worker, apiq_status status, const char* format, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  worker.fail(status, text);
}

}  // namespace apiq::cpu
