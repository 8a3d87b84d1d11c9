// How native code reports a failure inside the library: it throws Failure, and the C entry points turn it into a status
// and a text. Nothing else is thrown on purpose and nothing leaves the library.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <string>

#include "apiq.h"

namespace apiq {

struct Failure {
  apiq_status status;
  std::string text;
};

[[noreturn, gnu::format(printf, 2, 3)]] inline void fail(apiq_status status, const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  throw Failure{status, text};
}

#define APIQ_REQUIRE(condition, ...) \
  do {                               \
    if (!(condition)) [[unlikely]]   \
      ::apiq::fail(APIQ_INVALID_ARGUMENT, __VA_ARGS__); \
  } while (0)

}  // namespace apiq
