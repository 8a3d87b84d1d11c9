#include "kernels.h"

namespace apiq::cpu {

const LinalgKernels& linalg_kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::avx512) return avx512::linalg_kernels;
  if (isa == Isa::avx2) return avx2::linalg_kernels;
#else
  (void)isa;
#endif
  return scalar::linalg_kernels;
}

}  // namespace apiq::cpu
