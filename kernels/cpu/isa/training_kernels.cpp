#include "training_kernels.h"

namespace apiq::cpu {

const TrainingKernels& training_kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa >= Isa::avx512) return avx512::training_kernels;
  if (isa == Isa::avx2) return avx2::training_kernels;
#else
  (void)isa;
#endif
  return scalar::training_kernels;
}

}  // namespace apiq::cpu
