// What bf16_as_f32.h needs, with AVX: VDPBF16PS is two multiply-adds while the processor takes subnormals for zero.
#pragma once

#include <cstdint>

#include "micro.h"

namespace apiq::cpu::APIQ_ISA {
namespace {

// Until its end this thread rounds to nearest even, reads subnormals as zero and gives zero for them. Like VDPBF16PS, the processor
// decides what is subnormal as if it had rounded with an unbounded exponent.
class SubnormalsAreZero {
 public:
  SubnormalsAreZero() {
    constexpr uint32_t all_exceptions_masked = 0x1f80, flush_to_zero = 0x8000, denormals_are_zero = 0x40;
    asm volatile("stmxcsr %0" : "=m"(before_) : : "memory");
    set(all_exceptions_masked | flush_to_zero | denormals_are_zero);
  }
  ~SubnormalsAreZero() { set(before_); }
  SubnormalsAreZero(const SubnormalsAreZero&) = delete;
  SubnormalsAreZero& operator=(const SubnormalsAreZero&) = delete;

 private:
  static void set(uint32_t value) { asm volatile("ldmxcsr %0" : : "m"(value) : "memory"); }

  uint32_t before_ = 0;
};

using Bf16Step = MultiplyAdd;

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
