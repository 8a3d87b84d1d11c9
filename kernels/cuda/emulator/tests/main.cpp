// cuda_emulator_tests [part of a name]: prints a line per test and, last, "N passed, N failed".
#include "check.h"

int main(int argc, char** argv) {
  using namespace apiq::test;
  const char* const wanted = argc > 1 ? argv[1] : "";
  int passed = 0;
  int failed = 0;
  for (const Test& test : all_tests()) {
    if (test.name.find(wanted) == std::string::npos) continue;
    try {
      test.body();
      passed++;
      std::printf("ok      %s\n", test.name.c_str());
    } catch (const CheckFailed& failure) {
      failed++;
      std::printf("FAILED  %s\n        %s\n", test.name.c_str(), failure.text.c_str());
    }
    std::fflush(stdout);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
