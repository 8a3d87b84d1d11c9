#include "kernels.h"

#include "apiq.h"

namespace apiq::cpu {

const GemmKernels& gemm_kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::avx512) return avx512::gemm_kernels;
  if (isa == Isa::avx2) return avx2::gemm_kernels;
#else
  (void)isa;
#endif
  return scalar::gemm_kernels;
}

const PanelKernels& panel_kernels(Isa isa, uint32_t compute) {
#if defined(__x86_64__)
  if (isa == Isa::avx512bf16 && compute == APIQ_COMPUTE_BF16) return avx512bf16::bf16_kernels;
#endif
  const GemmKernels& kernels = gemm_kernels(isa);
  return compute == APIQ_COMPUTE_BF16 ? kernels.bf16 : kernels.f32;
}

}  // namespace apiq::cpu
