// Which instruction set a context uses.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace apiq::cpu {

enum class Isa : uint32_t {
  scalar = 0,
  avx2 = 1,    // AVX2, FMA, F16C
  avx512 = 2,  // AVX-512 F, BW, DQ, VL and VNNI, besides the above
  avx512bf16 = 3,  // AVX-512 BF16 besides: products of bfloat16 (gemm/); all other kernels are those of avx512
};
constexpr uint32_t isa_count = 4;

const char* isa_name(Isa isa);
bool isa_available(Isa isa);
std::vector<Isa> available_isas();
// The instruction set that a context option (APIQ_ISA_*) asks for, where it is "auto" the variable APIQ_ISA, and where that is unset the
// best there is. Fails on something unknown or something this processor does not have.
Isa choose_isa(uint32_t option);
std::string processor_name();

}  // namespace apiq::cpu
