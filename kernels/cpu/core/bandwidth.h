// The yardstick: how fast this machine reads memory from end to end.
#pragma once

#include "context.h"

namespace apiq::cpu {

// Bytes per second of one pass over the buffer, each thread reading one stretch of it. threads 0 = all of the context's.
double measure_bandwidth(Context& context, const Buffer& buffer, uint32_t threads);

}  // namespace apiq::cpu
