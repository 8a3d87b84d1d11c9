// Failures that only a kernel can see, because they lie in the data: it leaves a code in the context's fault word, and the
// next synchronize or download reports it.
#pragma once

#include <cstdint>

namespace apiq::cuda {

enum DeviceFault : uint32_t {
  no_fault = 0,
  kv_sequence_out_of_range = 1,
  kv_position_out_of_range = 2,
  kv_block_out_of_range = 3,
  embedding_id_out_of_range = 4,
};

inline const char* describe_fault(uint32_t code) {
  switch (code) {
    case kv_sequence_out_of_range: return "A paged cache: a row's sequence is outside the block tables";
    case kv_position_out_of_range: return "A paged cache: a row's position is negative or past its block table";
    case kv_block_out_of_range: return "A paged cache: a block id is outside the cache";
    case embedding_id_out_of_range: return "embedding: an id is outside the table";
    default: return "a kernel reported an unknown failure";
  }
}

}  // namespace apiq::cuda
