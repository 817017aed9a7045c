// One layer's keys and values as they lie in memory, and how they are read. kernels/kv.rs says how they are rounded;
// rope.cu does it.
#pragma once

#include "common.cuh"

namespace CODER_NAMESPACE {

// `Cache::type`.
enum { CACHE_F32, CACHE_F16, CACHE_Q8_0, CACHE_TYPES };

// Columns of a head that share a scale in CACHE_Q8_0.
constexpr int CACHE_RUN = 32;

// The keys, or the values. Place slot · kv heads + head has `dim` entries and ⌈dim / CACHE_RUN⌉ scales.
struct Side {
  const void *entries;
  const uint16_t *scales;
  int dim;
};

// Four entries of eight bits times their scale, exactly. A byte plus 128 becomes the lowest digits of 2^23, which is
// cheaper than a conversion.
__device__ inline void widen(float *x, uint32_t word, float scale) {
  word ^= 0x80808080u;
#pragma unroll
  for (int i = 0; i < 4; i++) x[i] = (as_float(0x4b000000u | ((word >> (8 * i)) & 0xff)) - 8388736.0f) * scale;
}

// N columns from column `c` on, a multiple of N, of a head whose `dim` is a multiple of N. All loads are as wide as the
// number of columns allows, at most 16 bytes; places begin on as many.
template <int TYPE, int N>
__device__ inline void load_whole(float (&x)[N], const Side &side, size_t place, int c) {
  size_t at = place * side.dim + c;
  if constexpr (TYPE == CACHE_F32) {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      float4 v = *reinterpret_cast<const float4 *>(static_cast<const float *>(side.entries) + at + i);
      x[i] = v.x, x[i + 1] = v.y, x[i + 2] = v.z, x[i + 3] = v.w;
    }
  } else {
    // Words of two halves, or of four bytes.
    constexpr int WORDS = N / (TYPE == CACHE_F16 ? 2 : 4);
    uint32_t word[WORDS];
    const char *from = static_cast<const char *>(side.entries) + at * (TYPE == CACHE_F16 ? 2 : 1);
    if constexpr (WORDS % 4 == 0) {
#pragma unroll
      for (int i = 0; i < WORDS; i += 4) {
        uint4 v = *reinterpret_cast<const uint4 *>(from + 4 * i);
        word[i] = v.x, word[i + 1] = v.y, word[i + 2] = v.z, word[i + 3] = v.w;
      }
    } else if constexpr (WORDS == 2) {
      uint2 v = *reinterpret_cast<const uint2 *>(from);
      word[0] = v.x, word[1] = v.y;
    } else {
      static_assert(WORDS == 1, "4 columns or 16");
      word[0] = *reinterpret_cast<const uint32_t *>(from);
    }
    if constexpr (TYPE == CACHE_F16) {
#pragma unroll
      for (int i = 0; i < N; i++) x[i] = half_to_float(uint16_t(word[i / 2] >> (i % 2 * 16)));
    } else {
      float scale = half_to_float(side.scales[place * ceil_div(side.dim, CACHE_RUN) + c / CACHE_RUN]);
#pragma unroll
      for (int i = 0; i < N; i += 4) widen(x + i, word[i / 4], scale);
    }
  }
}

// As above for any even `dim`; what lies beyond it is 0.
template <int TYPE, int N>
__device__ inline void load_some(float (&x)[N], const Side &side, size_t place, int c) {
#pragma unroll
  for (int i = 0; i < N; i++) {
    size_t at = place * side.dim + c + i;
    if (c + i >= side.dim) {
      x[i] = 0.0f;
    } else if constexpr (TYPE == CACHE_F32) {
      x[i] = static_cast<const float *>(side.entries)[at];
    } else if constexpr (TYPE == CACHE_F16) {
      x[i] = half_to_float(static_cast<const uint16_t *>(side.entries)[at]);
    } else {
      float scale = half_to_float(side.scales[place * ceil_div(side.dim, CACHE_RUN) + c / CACHE_RUN]);
      x[i] = float(static_cast<const int8_t *>(side.entries)[at]) * scale;
    }
  }
}

// N columns (4 or 16) from column `c` on, a multiple of N; 0 beyond the head's.
template <int TYPE, int N>
__device__ inline void load(float (&x)[N], const Side &side, size_t place, int c) {
  if (side.dim % N == 0) {
    load_whole<TYPE>(x, side, place, c);
  } else {
    load_some<TYPE>(x, side, place, c);
  }
}

}  // namespace CODER_NAMESPACE
