// Which instruction set a context uses: the best this processor has, or what APIQ_ISA=scalar|avx2|avx512 asks for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace apiq::cpu {

enum class Isa : uint32_t {
  scalar = 0,
  avx2 = 1,    // AVX2, FMA, F16C
  avx512 = 2,  // AVX-512 F, BW, DQ, VL and VNNI, besides the above
};
constexpr uint32_t isa_count = 3;

const char* isa_name(Isa isa);
bool isa_available(Isa isa);
std::vector<Isa> available_isas();
// Fails when APIQ_ISA names something unknown or something this processor does not have.
Isa choose_isa();
std::string processor_name();

}  // namespace apiq::cpu
