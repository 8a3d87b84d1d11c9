#if defined(__x86_64__)
#include "words_avx512.h"
// The kernels below are written over the Vec16 and Words of the header above.
#include "dense_tile.h"
#include "dispatch.h"
#include "f32_tile.h"
#include "lut_tile.h"
#include "quantize.h"

namespace apiq::cpu::avx512 {

static void affine_f32(const AffineMatrix& matrix, uint64_t tile, const float* x, uint64_t x_stride, uint32_t tokens, const Output& output) {
  run_tile<F32Tile, affine_tokens, uint64_t, const float*, uint64_t, const Output&>(tokens, matrix, tile, x, x_stride, output);
}

const PackedKernels kernels = {int8_tokens, affine_tokens, dense_tokens, quantize, affine_int8,
                               affine_f32, dense, lut, dequantize, dequantize_lut};

}  // namespace apiq::cpu::avx512
#endif
