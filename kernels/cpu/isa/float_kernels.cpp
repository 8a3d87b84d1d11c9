#include "float_kernels.h"

namespace apiq::cpu {

const FloatKernels& float_kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::avx512) return avx512::float_kernels;
  if (isa == Isa::avx2) return avx2::float_kernels;
#else
  (void)isa;
#endif
  return scalar::float_kernels;
}

}  // namespace apiq::cpu
