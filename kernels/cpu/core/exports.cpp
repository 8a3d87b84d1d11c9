// The exported functions that are not ops.
#include "bandwidth.h"
#include "context.h"

using apiq::cpu::Context;
using apiq::cpu::enter;

#include "../../common/exports.inl.h"

extern "C" apiq_status apiq_measure_bandwidth(uint64_t context, uint64_t buffer, uint32_t threads, double* bytes_per_second) {
  return enter(context, [&](Context& c) {
    require_target(bytes_per_second, "bytes_per_second");
    *bytes_per_second = apiq::cpu::measure_bandwidth(c, c.buffer(buffer), threads);
  });
}
