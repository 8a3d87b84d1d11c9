// The exported functions that are not ops.
#include "context.h"

using apiq::cuda::Context;
using apiq::cuda::enter;

#include "../common/exports.inl.h"
