// From GPTQ's layout to tiles.
#pragma once

#include "layout.h"

namespace apiq::cpu {

// The source, as apiq_weight_repack_args describes it. `zeros` is int32 words, float16 minimums or null.
struct GptqSource {
  const uint32_t* qweight;
  const void* zeros;
  const uint16_t* scales;
  uint32_t format;  // APIQ_GPTQ_*
};

// Writes tile `tile` of `matrix` to `target`, tile_bytes() long.
void repack_tile(const GptqSource& source, const AffineMatrix& matrix, uint32_t tile, std::byte* target);

}  // namespace apiq::cpu
