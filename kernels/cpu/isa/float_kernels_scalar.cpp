#include "vec16_scalar.h"
#include "kernels/table.h"
