#include "entry.h"

namespace apiq {

std::string& thread_error() {
  static thread_local std::string text;
  return text;
}

}  // namespace apiq
