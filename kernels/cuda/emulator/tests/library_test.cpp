// The shared libraries beside this program: that they export all of apiq.h, and what libapiq_cuda says where there is no GPU.
#include <dlfcn.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "apiq.h"
#include "check.h"

namespace apiq::test {
namespace {

std::filesystem::path library(const char* name) { return std::filesystem::read_symlink("/proc/self/exe").parent_path() / name; }

// Every function that apiq.h declares: the word before the parenthesis that follows APIQ_API.
std::set<std::string> declared() {
  std::stringstream header;
  header << std::ifstream(APIQ_HEADER).rdbuf();
  const std::string text = header.str();
  std::set<std::string> names;
  for (size_t at = text.find("\nAPIQ_API "); at != std::string::npos; at = text.find("\nAPIQ_API ", at + 1)) {
    const size_t end = text.find('(', at);
    const size_t start = text.rfind(' ', end) + 1;
    names.insert(text.substr(start, end - start));
  }
  return names;
}

void expect_all_symbols(const char* name) {
  void* const opened = dlopen(library(name).c_str(), RTLD_NOW | RTLD_LOCAL);
  check(opened != nullptr, std::string("Cannot open ") + name);
  const std::set<std::string> names = declared();
  check(names.size() > 30, "apiq.h could not be read");
  for (const std::string& symbol : names) check(dlsym(opened, symbol.c_str()) != nullptr, std::string(name) + " lacks " + symbol);
}

const Register emulated("library: libapiq_cuda_emulated exports all of apiq.h", [] { expect_all_symbols("libapiq_cuda_emulated.so"); });

const Register real("library: libapiq_cuda exports all of apiq.h and opens a device or says why not", [] {
  if (!std::filesystem::exists(library("libapiq_cuda.so"))) {
    std::printf("        (libapiq_cuda.so was not built: nothing to check)\n");
    return;
  }
  expect_all_symbols("libapiq_cuda.so");
  void* const opened = dlopen(library("libapiq_cuda.so").c_str(), RTLD_NOW | RTLD_LOCAL);
  const auto create = reinterpret_cast<decltype(&apiq_context_create)>(dlsym(opened, "apiq_context_create"));
  const auto destroy = reinterpret_cast<decltype(&apiq_context_destroy)>(dlsym(opened, "apiq_context_destroy"));
  const auto error = reinterpret_cast<decltype(&apiq_last_error)>(dlsym(opened, "apiq_last_error"));
  const apiq_context_options options{0, 0, 0, 0};
  uint64_t context = 0;
  const apiq_status status = create(&options, &context);
  uint8_t text[512];
  uint64_t bytes = 0;
  error(0, text, sizeof text, &bytes);
  const std::string said(reinterpret_cast<char*>(text), bytes < sizeof text ? bytes : sizeof text);
  std::printf("        (status %d: %s)\n", status, status == APIQ_OK ? "a context opened" : said.c_str());
  if (status == APIQ_OK) return check(destroy(context) == APIQ_OK, "context_destroy");
  check(status == APIQ_UNSUPPORTED && context == 0, "expected UNSUPPORTED");
  check_contains(said, "Cannot use CUDA");
});

}  // namespace
}  // namespace apiq::test
