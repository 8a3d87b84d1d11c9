#include "vec16_scalar.h"
#include "kernels/training_table.h"
