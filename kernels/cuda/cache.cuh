// One layer's keys and values as they lie in memory, and how they become what tensor cores take. kernels/kv.rs says how they
// are rounded; rope.cuh does it.
#pragma once

#include "common.cuh"

namespace CODER_NAMESPACE {

// `Cache::type`.
enum { CACHE_F32, CACHE_F16, CACHE_Q8_0, CACHE_TYPES };

// Columns of a head that share a scale in CACHE_Q8_0.
constexpr int CACHE_RUN = 32;

// Heads of 64 columns or 128. Their entries of eight bits lie as lanes read them, 16 bytes at once (8 of a value of 64): of each run
// one lane of four has eight columns of a key, one of eight has four of a value, and one lane's of all runs lie side by side.
constexpr __host__ __device__ bool is_whole(int dim) { return dim == 64 || dim == 128; }
constexpr int EACH_OF_KEY = 8, EACH_OF_VALUE = 4;

// Where column `c` of a whole head lies, if a lane has `each` of a run.
constexpr __device__ int in_lanes(int c, int dim, int each) {
  int run = c / CACHE_RUN, of = c % CACHE_RUN;
  return of / each * (dim * each / CACHE_RUN) + run * each + of % each;
}

// The keys, or the values. Place slot · kv heads + head has `dim` entries and ⌈dim / CACHE_RUN⌉ scales.
struct Side {
  const void *entries;
  const uint16_t *scales;
  int dim, kv_heads;
};

constexpr __host__ __device__ int bytes_of(int type) { return type == CACHE_F32 ? 4 : type == CACHE_F16 ? 2 : 1; }

// Column `c` of a place, and what lies between there and the same of a neighbouring slot, in bytes.
template <int TYPE>
__device__ inline const uint8_t *entry(const Side &side, size_t place, int c) {
  return static_cast<const uint8_t *>(side.entries) + (place * side.dim + c) * bytes_of(TYPE);
}
template <int TYPE>
__device__ inline unsigned stride(const Side &side) {
  return unsigned(side.kv_heads) * side.dim * bytes_of(TYPE);
}

// A number is taken as a half and what that leaves, times REST: 22 bits of it, and of what is smaller than halves go, all that
// is above 2^-36. What is larger than a half can be is infinite. An entry of CACHE_F32 has both parts, of CACHE_F16 it is one,
// of CACHE_Q8_0 its integer is one.
constexpr float REST = 2048.0f;
constexpr __host__ __device__ int parts_of(int type) { return type == CACHE_F32 ? 2 : 1; }

// Two numbers in two words.
__device__ inline void split(float x, float y, uint32_t &high, uint32_t &rest) {
  high = pack_halves(x, y);
  rest = pack_halves((x - low_half(high)) * REST, (y - high_half(high)) * REST);
}

// What sums of halves and of rests come to.
__device__ inline float joined(float high, float rest) { return fmaf(rest, 1.0f / REST, high); }

// The first two, or the last two, of four integers with 128 added, as halves: a byte behind 0x64 is 1024 and the byte.
__device__ inline uint32_t integers(uint32_t word, bool last) {
  return add_halves(permute(word, 0x64646464u, last ? 0x4342 : 0x4140), 0xe480e480u);
}

// Eight columns of a head; 0 where fewer are `left`. `WHOLE`: heads are, and all loads 16 bytes.
template <int TYPE>
struct Read {
  uint32_t word[2 * bytes_of(TYPE)];
};
template <int TYPE, bool WHOLE>
__device__ inline Read<TYPE> read(const uint8_t *from, int left) {
  static_assert(!WHOLE || TYPE != CACHE_Q8_0, "lanes read more than eight columns of whole heads");
  Read<TYPE> to = {};
  if constexpr (WHOLE) {
#pragma unroll
    for (int i = 0; i < 2 * bytes_of(TYPE); i += 4) {
      uint4 v = *reinterpret_cast<const uint4 *>(from + 4 * i);
      to.word[i] = v.x, to.word[i + 1] = v.y, to.word[i + 2] = v.z, to.word[i + 3] = v.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < 8; i++) {
      if (i >= left) continue;
      if (TYPE == CACHE_F32) to.word[i % (2 * bytes_of(TYPE))] = reinterpret_cast<const uint32_t *>(from)[i];
      if (TYPE == CACHE_F16) to.word[i / 2] |= uint32_t(reinterpret_cast<const uint16_t *>(from)[i]) << i % 2 * 16;
      if (TYPE == CACHE_Q8_0) to.word[i / 4] |= uint32_t(from[i]) << i % 4 * 8;
    }
  }
  return to;
}

// The same in halves, two to a word, of each part.
template <int TYPE>
__device__ inline void halves(uint32_t (&word)[parts_of(TYPE)][4], const Read<TYPE> &from) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    if constexpr (TYPE == CACHE_F32) {
      split(as_float(from.word[2 * i]), as_float(from.word[2 * i + 1]), word[0][i], word[1][i]);
    } else if constexpr (TYPE == CACHE_F16) {
      word[0][i] = from.word[i];
    } else {
      word[0][i] = integers(from.word[i / 2] ^ 0x80808080u, i % 2);
    }
  }
}

// Four entries of eight bits; 0 where fewer are left.
__device__ inline uint32_t load_bytes(const uint8_t *from, int left) {
  uint32_t word = 0;
#pragma unroll
  for (int i = 0; i < 4; i++) word |= i < left ? uint32_t(from[i]) << 8 * i : 0;
  return word;
}

// Four scales of a place, 0 where fewer are left. `WHOLE`: two or four.
template <bool WHOLE>
__device__ inline uint2 scales_of(const uint16_t *from, int left) {
  uint2 four = make_uint2(0, 0);
  if constexpr (WHOLE) {
    four.x = reinterpret_cast<const uint32_t *>(from)[0];
    if (left > 2) four.y = reinterpret_cast<const uint32_t *>(from)[1];
  } else {
#pragma unroll
    for (int i = 0; i < 4; i++) (i < 2 ? four.x : four.y) |= i < left ? uint32_t(from[i]) << i % 2 * 16 : 0;
  }
  return four;
}
__device__ inline float scale_of(const uint2 &four, int i) {
  return half_to_float(uint16_t((i < 2 ? four.x : four.y) >> i % 2 * 16));
}

}  // namespace CODER_NAMESPACE
