#include "kernels.h"

namespace apiq::cpu {

const GemmKernels& gemm_kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return avx512::gemm_kernels;
  if (isa == Isa::avx2) return avx2::gemm_kernels;
#else
  (void)isa;
#endif
  return scalar::gemm_kernels;
}

}  // namespace apiq::cpu
