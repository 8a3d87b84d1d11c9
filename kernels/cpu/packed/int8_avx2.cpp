// The int8 kernel on AVX2: a register holds 8 rows x 4 columns, vpmaddubsw adds products in pairs to 16 bits, vpmaddwd widens.
#if defined(__x86_64__)
#include <immintrin.h>

#include "dispatch.h"

namespace apiq::cpu::avx2 {
namespace {

constexpr uint32_t half_bytes = unit_bytes / 2;
// How far ahead of its loads a decode kernel asks for its stream: 8 KB measured better than 2. The next tile follows this one,
// so running past the end is right.
constexpr uint32_t prefetch_bytes = 8192;

// vpmaddubsw saturates: a field of at most 2^bits - 1 adds at most 2 * 127 * (2^bits - 1) to a 16-bit lane, eight times a chunk.
// Eight bits are multiplied as two nibbles. `flush_chunks` is how many chunks are summed before widening to 32 bits.
constexpr uint32_t multiplied_bits(uint32_t bits) { return bits == 8 ? 4 : bits; }
constexpr uint32_t chunk_maximum(uint32_t bits) { return chunk_fields * 2 * 127 * ((1u << multiplied_bits(bits)) - 1); }
constexpr uint32_t flush_chunks(uint32_t bits) { return bits == 2 ? 4 : bits == 3 ? 2 : 1; }
static_assert(flush_chunks(2) * chunk_maximum(2) <= INT16_MAX);
static_assert(flush_chunks(3) * chunk_maximum(3) <= INT16_MAX);
static_assert(flush_chunks(4) * chunk_maximum(4) <= INT16_MAX);
static_assert(flush_chunks(8) * chunk_maximum(8) <= INT16_MAX);

[[gnu::always_inline]] inline __m256i load_half(const std::byte* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }

// Field f (0..7) of a chunk for eight rows: bytes of columns 4f .. 4f+3. `units` is the chunk, moved to the half wanted.
template <uint32_t bits>
[[gnu::always_inline]] inline __m256i field(const std::byte* units, uint32_t f) {
  if constexpr (bits == 8) {
    return load_half(units + f * unit_bytes);
  } else if constexpr (bits == 3) {
    const __m256i planes = load_half(units + f / 4 * unit_bytes);
    const __m256i bit = load_half(units + 2 * unit_bytes);
    const __m256i low = _mm256_and_si256(_mm256_srli_epi32(planes, 2 * (f % 4)), _mm256_set1_epi8(3));
    const __m256i high = f < 2 ? _mm256_slli_epi32(bit, 2 - f) : _mm256_srli_epi32(bit, f - 2);
    return _mm256_or_si256(low, _mm256_and_si256(high, _mm256_set1_epi8(4)));
  } else {
    constexpr uint32_t fields = 8 / bits;
    const __m256i unit = load_half(units + f / fields * unit_bytes);
    return _mm256_and_si256(_mm256_srli_epi32(unit, bits * (f % fields)), _mm256_set1_epi8((1 << bits) - 1));
  }
}

// The zeros of group g, rows 8 half .. 8 half + 7, one 32-bit lane a row.
template <uint32_t bits>
[[gnu::always_inline]] inline __m256i integer_zeros(const std::byte* zeros, uint32_t g, uint32_t half) {
  const __m256i lane = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(static_cast<int>(8 * half)));
  if constexpr (bits == 2) {
    const __m256i all = _mm256_set1_epi32(reinterpret_cast<const int32_t*>(zeros)[g]);
    return _mm256_and_si256(_mm256_srlv_epi32(all, _mm256_slli_epi32(lane, 1)), _mm256_set1_epi32(3));
  } else if constexpr (bits == 8) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(zeros + 16 * g + 8 * half)));
  } else {
    const __m256i all = _mm256_set1_epi64x(reinterpret_cast<const int64_t*>(zeros)[g]);  // lane r sees dword r mod 2
    const __m256i shift = _mm256_slli_epi32(_mm256_srli_epi32(lane, 1), 2);
    return _mm256_and_si256(_mm256_srlv_epi32(all, shift), _mm256_set1_epi32(15));
  }
}

[[gnu::always_inline]] inline __m256i widen(__m256i pairs, int16_t factor) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(factor)); }

// sum += pairs, in this order. Left alone, g++ turns a chain of additions into a tree of all the products, which do not fit the
// registers: it spilled every one of them. The empty assembly stops that.
[[gnu::always_inline]] inline void accumulate(__m256i& sum, __m256i pairs) {
  sum = _mm256_add_epi16(sum, pairs);
  asm("" : "+x"(sum));
}

// dot[h][t] += the chunks' products, for `halves` halves of the rows starting at the one `chunk` points to.
template <uint32_t bits, uint32_t tokens, uint32_t halves>
[[gnu::always_inline]] inline void add_chunks(const std::byte* chunk, const int32_t* x, uint32_t chunks, __m256i (*dot)[tokens]) {
  __m256i low[halves][tokens], high[halves][tokens];
  for (uint32_t h = 0; h < halves; h++) {
    for (uint32_t t = 0; t < tokens; t++) low[h][t] = high[h][t] = _mm256_setzero_si256();
  }
  for (uint32_t c = 0; c < chunks; c++, chunk += bits * unit_bytes, x += chunk_fields * tokens) {
    if constexpr (tokens == 1) {
      for (uint32_t u = 0; u < bits; u++) _mm_prefetch(reinterpret_cast<const char*>(chunk + u * unit_bytes + prefetch_bytes), _MM_HINT_T0);
    }
#pragma GCC unroll 8
    for (uint32_t f = 0; f < chunk_fields; f++) {
      __m256i w[halves];
#pragma GCC unroll 2
      for (uint32_t h = 0; h < halves; h++) w[h] = field<bits>(chunk + h * half_bytes, f);
#pragma GCC unroll 4
      for (uint32_t t = 0; t < tokens; t++) {
        const __m256i input = _mm256_set1_epi32(x[f * tokens + t]);
#pragma GCC unroll 2
        for (uint32_t h = 0; h < halves; h++) {
          if constexpr (bits == 8) {
            const __m256i nibble = _mm256_set1_epi8(15);
            const __m256i upper = _mm256_and_si256(_mm256_srli_epi32(w[h], 4), nibble);
            accumulate(low[h][t], _mm256_maddubs_epi16(_mm256_and_si256(w[h], nibble), input));
            accumulate(high[h][t], _mm256_maddubs_epi16(upper, input));
          } else {
            accumulate(low[h][t], _mm256_maddubs_epi16(w[h], input));
          }
        }
      }
    }
  }
#pragma GCC unroll 2
  for (uint32_t h = 0; h < halves; h++) {
#pragma GCC unroll 4
    for (uint32_t t = 0; t < tokens; t++) {
      dot[h][t] = _mm256_add_epi32(dot[h][t], widen(low[h][t], 1));
      if constexpr (bits == 8) dot[h][t] = _mm256_add_epi32(dot[h][t], widen(high[h][t], 16));
    }
  }
}

// The same for two bits and one token, where taking fields apart costs as much as multiplying them: every second field stays in bits
// 2 and 3 of its byte, and the sum of those products is shifted instead. It is a multiple of 4.
constexpr uint32_t one_token_chunks = 2;
static_assert(one_token_chunks * (chunk_fields / 2) * 2 * 127 * 12 <= INT16_MAX);
[[gnu::always_inline]] inline void add_chunks_one_token(const std::byte* chunk, const int32_t* x, uint32_t chunks, __m256i (*dot)[1]) {
  const __m256i low_field = _mm256_set1_epi8(3), high_field = _mm256_set1_epi8(12);
  __m256i low[2], high[2];
  for (uint32_t h = 0; h < 2; h++) low[h] = high[h] = _mm256_setzero_si256();
  for (uint32_t u = 0; u < 2 * chunks; u++, chunk += unit_bytes, x += 4) {
    _mm_prefetch(reinterpret_cast<const char*>(chunk + prefetch_bytes), _MM_HINT_T0);
#pragma GCC unroll 2
    for (uint32_t h = 0; h < 2; h++) {
      const __m256i unit = load_half(chunk + h * half_bytes), upper = _mm256_srli_epi32(unit, 4);
      accumulate(low[h], _mm256_maddubs_epi16(_mm256_and_si256(unit, low_field), _mm256_set1_epi32(x[0])));
      accumulate(high[h], _mm256_maddubs_epi16(_mm256_and_si256(unit, high_field), _mm256_set1_epi32(x[1])));
      accumulate(low[h], _mm256_maddubs_epi16(_mm256_and_si256(upper, low_field), _mm256_set1_epi32(x[2])));
      accumulate(high[h], _mm256_maddubs_epi16(_mm256_and_si256(upper, high_field), _mm256_set1_epi32(x[3])));
    }
  }
#pragma GCC unroll 2
  for (uint32_t h = 0; h < 2; h++) {
    dot[h][0] = _mm256_add_epi32(dot[h][0], _mm256_add_epi32(widen(low[h], 1), _mm256_srai_epi32(widen(high[h], 1), 2)));
  }
}

[[gnu::always_inline]] inline __m256i first_lanes(int n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }

struct Int8Tile {
  template <uint32_t bits, bool float_zero, uint32_t tokens>
  [[gnu::noinline]] static void run(const AffineMatrix& matrix, uint64_t tile, const ActivationBlock& block, const Output& output) {
    const std::byte* const zeros = matrix.tile(tile);
    const std::byte* stream = zeros + matrix.zeros_bytes();
    const uint32_t groups = matrix.groups();
    const uint32_t chunks = matrix.group / chunk_columns;
    const int32_t* x = reinterpret_cast<const int32_t*>(block.q);

    __m256 sum[2][tokens];
    for (uint32_t t = 0; t < tokens; t++) sum[0][t] = sum[1][t] = _mm256_setzero_ps();
    const std::byte* scales = nullptr;
    for (uint32_t g = 0; g < groups; g++) {
      if (g % 2 == 0) {
        scales = stream;
        stream += 64;
      }
      __m256i dot[2][tokens];
#pragma GCC unroll 2
      for (uint32_t h = 0; h < 2; h++) {
        if constexpr (float_zero) {
          for (uint32_t t = 0; t < tokens; t++) dot[h][t] = _mm256_setzero_si256();
        } else {
          // A lane's high half is 0, so vpmaddwd gives z * -sum(q) from the low halves: |sum(q)| <= 127 * 128 fits in 16 bits.
          static_assert(127 * 128 <= INT16_MAX);
          const __m256i z = integer_zeros<bits>(zeros, g, h);
          for (uint32_t t = 0; t < tokens; t++) dot[h][t] = _mm256_madd_epi16(z, _mm256_set1_epi32(block.negative_sum[g * tokens + t]));
        }
      }
      constexpr bool one_token = bits == 2 && tokens == 1;
      constexpr uint32_t step = one_token ? one_token_chunks : flush_chunks(bits);
      for (uint32_t chunk = 0; chunk < chunks; chunk += step) {
        const uint32_t count = chunks - chunk < step ? chunks - chunk : step;
        if constexpr (bits == 8) {  // two sums a token and half: both halves at once would not fit the registers
          add_chunks<bits, tokens, 1>(stream, x, count, dot);
          add_chunks<bits, tokens, 1>(stream + half_bytes, x, count, dot + 1);
        } else if constexpr (one_token) {
          add_chunks_one_token(stream, x, count, dot);
        } else {
          add_chunks<bits, tokens, 2>(stream, x, count, dot);
        }
        stream += count * bits * unit_bytes;
        x += count * chunk_fields * tokens;
      }
#pragma GCC unroll 2
      for (uint32_t h = 0; h < 2; h++) {
        const __m256 scale = _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(scales) + 2 * (g % 2) + h));
        for (uint32_t t = 0; t < tokens; t++) {
          const __m256 both = _mm256_mul_ps(scale, _mm256_set1_ps(block.scale[g * tokens + t]));
          sum[h][t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[h][t]), both, sum[h][t]);
        }
        if constexpr (float_zero) {
          const __m256 m = _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(zeros) + 2 * g + h));
          for (uint32_t t = 0; t < tokens; t++) sum[h][t] = _mm256_fmadd_ps(m, _mm256_set1_ps(block.scaled_sum[g * tokens + t]), sum[h][t]);
        }
      }
    }
    for (uint32_t h = 0; h < 2; h++) {
      const __m256i mask = first_lanes(static_cast<int>(output.columns) - static_cast<int>(8 * h));
      for (uint32_t t = 0; t < tokens; t++) {
        __m256 y = sum[h][t];
        if (output.bias != nullptr) y = _mm256_add_ps(y, _mm256_maskload_ps(output.bias + 8 * h, mask));
        _mm256_maskstore_ps(output.y + t * output.stride + 8 * h, mask, y);
      }
    }
  }
};

}  // namespace

void affine_int8(const AffineMatrix& matrix, uint64_t tile, const ActivationBlock& block, const Output& output) {
  run_tile<Int8Tile, int8_tokens, uint64_t, const ActivationBlock&, const Output&>(block.tokens, matrix, tile, block, output);
}

}  // namespace apiq::cpu::avx2
#endif
