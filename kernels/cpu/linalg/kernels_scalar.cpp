#include "../isa/vec16_scalar.h"
#include "table.h"
