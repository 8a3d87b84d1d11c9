// Element types of dense tensors in memory: how each is stored and what it is worth.
#pragma once

#include "device.cuh"

namespace apiq::cuda {

struct Float32 {
  float stored;
  APIQ_DEVICE static float value(float element) { return element; }
  APIQ_DEVICE static float stored_form(float value) { return value; }
};

struct Float16 {
  uint16_t stored;
  APIQ_DEVICE static float value(uint16_t element) { return half_to_float(element); }
  APIQ_DEVICE static uint16_t stored_form(float value) { return float_to_half(value); }
};

struct Bfloat16 {
  uint16_t stored;
  APIQ_DEVICE static float value(uint16_t element) { return bfloat_to_float(element); }
};

}  // namespace apiq::cuda
