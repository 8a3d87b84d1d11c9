#if defined(__x86_64__)
#include "vec16_avx512.h"
#include "kernels/training_table.h"
#endif
