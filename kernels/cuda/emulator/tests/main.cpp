// cuda_emulator_tests [part of a name]: prints a line per test and, last, "N passed, N failed".
#include <exception>

#include "../../../common/failure.h"
#include "../fault.h"
#include "check.h"

namespace {

// What went wrong in a test's body, or "" when nothing did.
std::string run(const apiq::test::Test& test) {
  try {
    test.body();
    return "";
  } catch (const apiq::test::CheckFailed& failure) {
    return failure.text;
  } catch (const apiq::Failure& failure) {
    return failure.text;
  } catch (const apiq::emulator::Fault& fault) {
    return fault.text;
  } catch (const std::exception& exception) {
    return exception.what();
  }
}

}  // namespace

int main(int argc, char** argv) {
  using namespace apiq::test;
  const char* const wanted = argc > 1 ? argv[1] : "";
  int passed = 0;
  int failed = 0;
  for (const Test& test : all_tests()) {
    if (test.name.find(wanted) == std::string::npos) continue;
    const std::string problem = run(test);
    (problem.empty() ? passed : failed)++;
    std::printf("%s  %s\n", problem.empty() ? "ok    " : "FAILED", test.name.c_str());
    if (!problem.empty()) std::printf("        %s\n", problem.c_str());
    std::fflush(stdout);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
