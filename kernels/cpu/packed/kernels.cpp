#include "kernels.h"

namespace apiq::cpu {

const PackedKernels& packed_kernels(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::avx512bf16:
    case Isa::avx512: return avx512::kernels;
    case Isa::avx2: return avx2::kernels;
#endif
    default: return scalar::kernels;
  }
}

}  // namespace apiq::cpu
