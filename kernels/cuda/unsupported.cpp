// The ops of apiq.h that this library does not have yet. Each says so; none falls back to the CPU. Removing a line from the table
// and writing the op are one change.
#include "context.h"

namespace {

apiq_status refuse(uint64_t context, const char* op) {
  return apiq::cuda::enter(context, [&](apiq::cuda::Context&) {
    apiq::fail(APIQ_UNSUPPORTED, "not implemented by libapiq_cuda yet: %s", op);
  });
}

}  // namespace

#define APIQ_NOT_YET(op) \
  apiq_status apiq_##op(uint64_t context, const apiq_##op##_args*) { return refuse(context, #op); }

extern "C" {

APIQ_NOT_YET(lora)
APIQ_NOT_YET(token_nll)
APIQ_NOT_YET(sample)

apiq_status apiq_measure_bandwidth(uint64_t context, uint64_t, uint32_t, double*) { return refuse(context, "measure_bandwidth"); }

}  // extern "C"
