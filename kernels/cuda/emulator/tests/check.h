// A test is a function with a name; a failed check ends it.
#pragma once

#include <cmath>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

namespace apiq::test {

struct CheckFailed {
  std::string text;
};

struct Test {
  std::string name;
  std::function<void()> body;
};

inline std::vector<Test>& all_tests() {
  static std::vector<Test> tests;
  return tests;
}

struct Register {
  Register(std::string name, std::function<void()> body) { all_tests().push_back({std::move(name), std::move(body)}); }
};

inline void check(bool condition, const std::string& what) {
  if (!condition) throw CheckFailed{what};
}

inline void check_contains(const std::string& text, const std::string& part) {
  check(text.find(part) != std::string::npos, "received \"" + text + "\", expected it to contain \"" + part + "\"");
}

// |actual - expected| <= tolerance for every element.
inline void check_near(const std::vector<float>& actual, const std::vector<double>& expected, const std::vector<double>& tolerance,
                       const std::string& what) {
  check(actual.size() == expected.size(), what + ": sizes differ");
  for (size_t i = 0; i < actual.size(); i++) {
    const double error = std::fabs(static_cast<double>(actual[i]) - expected[i]);
    if (error <= tolerance[i]) continue;  // false for NaN
    char text[256];
    std::snprintf(text, sizeof text, "%s[%zu]: received %.9g, expected %.9g within %.3g", what.c_str(), i, static_cast<double>(actual[i]),
                  expected[i], tolerance[i]);
    throw CheckFailed{text};
  }
}

}  // namespace apiq::test
