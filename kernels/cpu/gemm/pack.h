// Interleaves lines of a matrix into panels. Needs interleave<count>(source, line_stride, packed, width) of the instruction set:
// 8 neighbouring elements of each of `count` lines, to packed[p * width + line].
#pragma once

#include <cstring>

#include "kernels.h"

namespace apiq::cpu::APIQ_ISA {
namespace {

// Lines [first, end) element by element.
template <uint32_t width>
void pack_slowly(const PanelSource& from, uint32_t first, uint32_t end, uint32_t p, float* packed) {
  for (; p < from.k; p++) {
    const float* const column = from.source + p * from.k_stride;
    for (uint32_t i = first; i < end; i++) packed[uint64_t{p} * width + i] = column[i * from.line_stride];
  }
}

// Elements of a line lie side by side: `count` lines from `first` on, 8 elements of each at a time.
template <uint32_t width, uint32_t count>
void pack_lines(const PanelSource& from, uint32_t first, float* packed) {
  const float* const source = from.source + first * from.line_stride;
  uint32_t p = 0;
  for (; p + 8 <= from.k; p += 8) interleave<count>(source + p, from.line_stride, packed + uint64_t{p} * width + first, width);
  pack_slowly<width>(from, first, first + count, p, packed);
}

// One panel of at most `width` lines.
template <uint32_t width>
void pack_panel(const PanelSource& from, float* packed) {
  uint32_t first = 0;
  if (from.k_stride == 1) {
    for (; first + 8 <= from.lines; first += 8) pack_lines<width, 8>(from, first, packed);
    if constexpr (width % 8 != 0) {
      if (first + width % 8 == from.lines) {
        pack_lines<width, width % 8>(from, first, packed);
        first += width % 8;
      }
    }
  }
  pack_slowly<width>(from, first, from.lines, 0, packed);
  for (uint32_t p = 0; p < from.words; p++) {
    for (uint32_t i = p < from.k ? from.lines : 0; i < width; i++) packed[uint64_t{p} * width + i] = 0;
  }
}

// Neighbouring panels, one element a word. Where neighbouring lines lie side by side, a stretch of them is read from end to end
// and dealt out.
template <uint32_t width>
void pack(const PanelSource& from, float* packed) {
  const uint64_t panel_floats = uint64_t{from.words} * width;
  uint32_t first = 0;
  if (from.line_stride == 1) {
    const uint32_t whole = from.lines / width;
    for (uint32_t p = 0; p < from.k; p++) {
      const float* const source = from.source + p * from.k_stride;
      for (uint32_t j = 0; j < whole; j++) {
        std::memcpy(packed + j * panel_floats + p * width, source + j * width, width * sizeof(float));
      }
    }
    for (uint32_t p = from.k; p < from.words; p++) {
      for (uint32_t j = 0; j < whole; j++) std::memset(packed + j * panel_floats + p * width, 0, width * sizeof(float));
    }
    first = whole * width;
  }
  for (; first < from.lines; first += width) {
    const uint32_t lines = from.lines - first < width ? from.lines - first : width;
    pack_panel<width>({from.source + first * from.line_stride, from.line_stride, from.k_stride, lines, from.k, from.words},
                      packed + first / width * panel_floats);
  }
}

}  // namespace
}  // namespace apiq::cpu::APIQ_ISA
