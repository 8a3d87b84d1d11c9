// What the emulator throws when a kernel does what a GPU would punish, or worse, would not.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <string>

namespace apiq::emulator {

struct Fault {
  std::string text;
};

[[noreturn, gnu::format(printf, 1, 2)]] inline void fault(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  throw Fault{text};
}

}  // namespace apiq::emulator
