// Failures that only a kernel can see, because they lie in the data: it leaves a code in the context's fault word, and the
// next synchronize or download reports it.
#pragma once

#include <cstdint>

namespace apiq::cuda {

enum DeviceFault : uint32_t {
  no_fault = 0,
  attention_sequence_out_of_range = 1,
  attention_position_out_of_range = 2,
  attention_block_out_of_range = 3,
};

inline const char* describe_fault(uint32_t code) {
  switch (code) {
    case attention_sequence_out_of_range: return "attention: a row's sequence is outside the block tables";
    case attention_position_out_of_range: return "attention: a row's position is negative or past its block table";
    case attention_block_out_of_range: return "attention: a block id is outside the cache";
    default: return "a kernel reported an unknown failure";
  }
}

}  // namespace apiq::cuda
