#include "isa.h"

#include <cpuid.h>

#include <cstdlib>
#include <cstring>

#include "../../common/failure.h"

namespace apiq::cpu {

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::scalar: return "scalar";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
    case Isa::avx512bf16: return "avx512bf16";
  }
  return "unknown";
}

#if defined(__x86_64__)
bool isa_available(Isa isa) {
  __builtin_cpu_init();  // also checks that the operating system saves the wide registers
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  switch (isa) {
    case Isa::scalar: return true;
    case Isa::avx2: return avx2;
    case Isa::avx512:
      return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
    case Isa::avx512bf16: return isa_available(Isa::avx512) && __builtin_cpu_supports("avx512bf16");
  }
  return false;
}

std::string processor_name() {
  uint32_t words[12];
  for (uint32_t i = 0; i < 3; i++) {
    if (!__get_cpuid(0x80000002u + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2], &words[4 * i + 3])) return "x86-64";
  }
  char name[49] = {};
  std::memcpy(name, words, 48);
  std::string trimmed = name;
  trimmed.erase(0, trimmed.find_first_not_of(' '));
  while (!trimmed.empty() && trimmed.back() == ' ') trimmed.pop_back();
  return trimmed;
}
#else
bool isa_available(Isa isa) { return isa == Isa::scalar; }
std::string processor_name() { return "portable"; }
#endif

std::vector<Isa> available_isas() {
  std::vector<Isa> found;
  for (uint32_t i = 0; i < isa_count; i++) {
    if (isa_available(static_cast<Isa>(i))) found.push_back(static_cast<Isa>(i));
  }
  return found;
}

static Isa require_isa(Isa isa, const char* asked_by) {
  if (isa_available(isa)) return isa;
  fail(APIQ_UNSUPPORTED, "Cannot use the instruction set %s that %s asks for: this processor (%s) does not have it", isa_name(isa), asked_by,
       processor_name().c_str());
}

Isa choose_isa(uint32_t option) {
  APIQ_REQUIRE(option <= isa_count, "isa: received %u, expected 0 to %u", option, isa_count);
  if (option != APIQ_ISA_AUTO) return require_isa(static_cast<Isa>(option - 1), "the context's isa");
  const char* forced = std::getenv("APIQ_ISA");
  if (forced == nullptr || *forced == 0) return available_isas().back();
  for (uint32_t i = 0; i < isa_count; i++) {
    if (std::strcmp(forced, isa_name(static_cast<Isa>(i))) == 0) return require_isa(static_cast<Isa>(i), "APIQ_ISA");
  }
  fail(APIQ_INVALID_ARGUMENT, "Cannot use APIQ_ISA=%s: expected scalar, avx2, avx512 or avx512bf16", forced);
}

}  // namespace apiq::cpu
