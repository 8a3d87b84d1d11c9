#if defined(__x86_64__)
#include "vec16_avx2.h"
#include "kernels/table.h"
#endif
