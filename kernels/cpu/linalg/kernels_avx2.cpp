#if defined(__x86_64__)
#include "../isa/vec16_avx2.h"
#include "table.h"
#endif
