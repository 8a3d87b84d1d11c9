// The int8 kernel on AVX-512 with VNNI: a register holds 16 rows x 4 columns, one vpdpbusd does 64 multiply-adds.
#if defined(__x86_64__)
#include <immintrin.h>

#include "dispatch.h"

namespace apiq::cpu::avx512 {
namespace {

// How far ahead of its loads a decode kernel asks for its stream: 8 KB measured better than 2 and 4. The next tile follows this one,
// so running past the end is right.
constexpr uint32_t prefetch_bytes = 8192;

__m512i load_unit(const std::byte* p) { return _mm512_load_si512(p); }

// Field f (0..7) of a chunk: bytes of 16 rows x columns 4f .. 4f+3.
template <uint32_t bits>
[[gnu::always_inline]] inline __m512i field(const __m512i* units, uint32_t f) {
  if constexpr (bits == 8) {
    return units[f];
  } else if constexpr (bits == 3) {
    const __m512i low = _mm512_and_si512(_mm512_srli_epi32(units[f / 4], 2 * (f % 4)), _mm512_set1_epi8(3));
    const __m512i high = f < 2 ? _mm512_slli_epi32(units[2], 2 - f) : _mm512_srli_epi32(units[2], f - 2);
    return _mm512_ternarylogic_epi32(low, high, _mm512_set1_epi8(4), 0xf8);  // low | (high & 4)
  } else {
    constexpr uint32_t fields = 8 / bits;
    return _mm512_and_si512(_mm512_srli_epi32(units[f / fields], bits * (f % fields)), _mm512_set1_epi8((1 << bits) - 1));
  }
}

// Decode is a chain of dependent additions, so few tokens spread them over several sums.
constexpr uint32_t chains_for(uint32_t tokens) { return tokens == 1 ? 4 : tokens == 2 ? 2 : 1; }

// With one token, shifting the fields down would cost as much as multiplying them. They are multiplied where they are in the byte
// instead, one sum for every place, and the sums are shifted: a sum of products of fields at bit p is a multiple of 2^p.
constexpr bool in_place(uint32_t bits, uint32_t tokens) { return tokens == 1 && (bits == 2 || bits == 4); }
constexpr uint32_t place(uint32_t bits, uint32_t chain) { return bits * (chain % (8 / bits)); }
template <uint32_t bits>
[[gnu::always_inline]] inline __m512i field_in_place(const __m512i* units, uint32_t f) {
  constexpr uint32_t fields = 8 / bits;
  return _mm512_and_si512(units[f / fields], _mm512_set1_epi8(static_cast<char>(((1 << bits) - 1) << (bits * (f % fields)))));
}

// The zeros of group g, one 32-bit lane a row.
template <uint32_t bits>
[[gnu::always_inline]] inline __m512i integer_zeros(const std::byte* zeros, uint32_t g) {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  if constexpr (bits == 2) {
    const __m512i all = _mm512_set1_epi32(reinterpret_cast<const int32_t*>(zeros)[g]);
    return _mm512_and_si512(_mm512_srlv_epi32(all, _mm512_slli_epi32(lane, 1)), _mm512_set1_epi32(3));
  } else if constexpr (bits == 8) {
    return _mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(zeros) + g));
  } else {
    const __m512i all = _mm512_set1_epi64(reinterpret_cast<const int64_t*>(zeros)[g]);  // lane r sees dword r mod 2
    const __m512i shift = _mm512_slli_epi32(_mm512_srli_epi32(lane, 1), 2);
    return _mm512_and_si512(_mm512_srlv_epi32(all, shift), _mm512_set1_epi32(15));
  }
}

struct Int8Tile {
  template <uint32_t bits, bool float_zero, uint32_t tokens>
  [[gnu::noinline]] static void run(const AffineMatrix& matrix, uint64_t tile, const ActivationBlock& block, const Output& output) {
    const std::byte* const zeros = matrix.tile(tile);
    const std::byte* stream = zeros + matrix.zeros_bytes();
    const uint32_t groups = matrix.groups();
    const uint32_t chunks = matrix.group / chunk_columns;
    const int32_t* x = reinterpret_cast<const int32_t*>(block.q);

    constexpr uint32_t chains = chains_for(tokens);
    __m512 sum[tokens];
    for (uint32_t t = 0; t < tokens; t++) sum[t] = _mm512_setzero_ps();
    const std::byte* scales = nullptr;
    for (uint32_t g = 0; g < groups; g++) {
      if (g % 2 == 0) {
        scales = stream;
        stream += 64;
      }
      __m512i dot[chains][tokens];
      for (uint32_t chain = 0; chain < chains; chain++) {
        for (uint32_t t = 0; t < tokens; t++) dot[chain][t] = _mm512_setzero_si512();
      }
      if constexpr (!float_zero) {
        // A lane's high half is 0, so vpmaddwd gives z * -sum(q) from the low halves: |sum(q)| <= 127 * 128 fits in 16 bits.
        static_assert(127 * 128 <= INT16_MAX);
        const __m512i z = integer_zeros<bits>(zeros, g);
        for (uint32_t t = 0; t < tokens; t++) dot[0][t] = _mm512_madd_epi16(z, _mm512_set1_epi32(block.negative_sum[g * tokens + t]));
      }
      for (uint32_t chunk = 0; chunk < chunks; chunk++) {
        __m512i units[bits];
#pragma GCC unroll 8
        for (uint32_t u = 0; u < bits; u++) {
          units[u] = load_unit(stream + u * unit_bytes);
          if constexpr (tokens == 1) _mm_prefetch(reinterpret_cast<const char*>(stream + u * unit_bytes + prefetch_bytes), _MM_HINT_T0);
        }
#pragma GCC unroll 8
        for (uint32_t f = 0; f < chunk_fields; f++) {
          const __m512i w = in_place(bits, tokens) ? field_in_place<bits>(units, f) : field<bits>(units, f);
#pragma GCC unroll 8
          for (uint32_t t = 0; t < tokens; t++) {
            __m512i& sum_of_chain = dot[f % chains][t];
            sum_of_chain = _mm512_dpbusd_epi32(sum_of_chain, w, _mm512_set1_epi32(x[f * tokens + t]));
          }
        }
        stream += bits * unit_bytes;
        x += chunk_fields * tokens;
      }
#pragma GCC unroll 4
      for (uint32_t chain = 1; chain < chains; chain++) {
#pragma GCC unroll 2
        for (uint32_t t = 0; t < tokens; t++) {
          const __m512i down = in_place(bits, tokens) ? _mm512_srai_epi32(dot[chain][t], place(bits, chain)) : dot[chain][t];
          dot[0][t] = _mm512_add_epi32(dot[0][t], down);
        }
      }
      const __m512 scale = _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(scales) + g % 2));
#pragma GCC unroll 8
      for (uint32_t t = 0; t < tokens; t++) {
        const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(block.scale[g * tokens + t]));
        sum[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[0][t]), both, sum[t]);
      }
      if constexpr (float_zero) {
        const __m512 m = _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(zeros) + g));
#pragma GCC unroll 8
        for (uint32_t t = 0; t < tokens; t++) sum[t] = _mm512_fmadd_ps(m, _mm512_set1_ps(block.scaled_sum[g * tokens + t]), sum[t]);
      }
    }
    const __mmask16 mask = static_cast<__mmask16>((1u << output.columns) - 1);
    const __m512 bias = output.bias == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, output.bias);
    for (uint32_t t = 0; t < tokens; t++) {
      const __m512 y = output.bias == nullptr ? sum[t] : _mm512_add_ps(sum[t], bias);
      _mm512_mask_storeu_ps(output.y + t * output.stride, mask, y);
    }
  }
};

}  // namespace

void affine_int8(const AffineMatrix& matrix, uint64_t tile, const ActivationBlock& block, const Output& output) {
  run_tile<Int8Tile, int8_tokens, uint64_t, const ActivationBlock&, const Output&>(block.tokens, matrix, tile, block, output);
}

}  // namespace apiq::cpu::avx512
#endif
