// What the fields of quantized weights mean: 32 of them as signed bytes, with their scales and minima.
//
// weight = scale · code − minimum, each step rounded to f32: the very numbers of blocks/*.rs, which also define the
// fields. Offsets of a type (the 8 of Q4_0, say) are within the codes, which fit a signed byte. Fields lie in planes,
// in the order of planes.rs; plane f begins on 256 bytes, so field f of block `at` is as aligned as its length.
#pragma once

#include "common.cuh"

namespace CODER_NAMESPACE {

constexpr int RUN = 32;  // weights that are taken apart together, and inputs that share a scale

// What 32 weights are. With two scales, the first is of the first 16 weights.
template <int SCALES>
struct Weights {
  int code[RUN / 4];  // four signed bytes each, in the order of the inputs
  float scale[SCALES];
  float minimum[SCALES];  // not set for types that have none
};

// A type: runs of a file's block, scales of a run, whether there are minima, and words as they lie in memory. Taking a run
// apart has two steps, so that a kernel can read one run while it works on another:
//   read(plane, at, j, raw)  run `j` of block `at` of a part, counted from the part's first block
//   unpack(raw, j, weights)
template <int RUNS_, int SCALES_, bool MINIMA_, int LOW, int HIGH, int SMALL>
struct Layout {
  static constexpr int RUNS = RUNS_, SCALES = SCALES_;
  static constexpr bool MINIMA = MINIMA_;
  using Of = Weights<SCALES_>;
  using Planes = const uint8_t *const *;
  struct Raw {
    uint32_t low[LOW];    // of the codes
    uint32_t high[HIGH];  // bits that not all types have
    uint32_t small[SMALL];  // scales, those of the block last
  };
};

template <int TYPE>
struct Codes;

// Run `run` of a part, counted from its first.
template <int TYPE>
__device__ inline void read_run(const Part &part, size_t run, typename Codes<TYPE>::Raw &to) {
  constexpr int RUNS = Codes<TYPE>::RUNS;
  Codes<TYPE>::read(part.plane, run / RUNS, int(run % RUNS), to);
}

template <int TYPE>
__device__ inline void unpack_run(const typename Codes<TYPE>::Raw &raw, size_t run, typename Codes<TYPE>::Of &to) {
  Codes<TYPE>::unpack(raw, int(run % Codes<TYPE>::RUNS), to);
}

constexpr __host__ __device__ bool is_float(int type) { return type == F32 || type == F16 || type == BF16; }

template <typename T>
__device__ inline T field(const uint8_t *plane, size_t byte) {
  return *reinterpret_cast<const T *>(plane + byte);
}

template <int N>
__device__ inline void words(const uint8_t *plane, size_t byte, uint32_t (&to)[N]) {
#pragma unroll
  for (int i = 0; i < N; i += 4) {
    uint4 v = field<uint4>(plane, byte + 4 * i);
    to[i] = v.x, to[i + 1] = v.y, to[i + 2] = v.z, to[i + 3] = v.w;
  }
}

__device__ inline float low_half(uint32_t both) { return half_to_float(uint16_t(both)); }
__device__ inline float high_half(uint32_t both) { return half_to_float(uint16_t(both >> 16)); }

// Each of four bytes below 128 less OFFSET: the top bits keep one byte's borrow from the next.
template <int OFFSET>
__device__ inline int less(uint32_t bytes) {
  return int(((bytes | 0x80808080u) - OFFSET * 0x01010101u) ^ 0x80808080u);
}

// ---- 32 weights to a block

// Byte l of the nibbles has weight l low and weight l + 16 high; words 0 … 3 of the codes are the low ones.
__device__ inline uint32_t nibbles(const uint32_t (&q)[4], int i) { return q[i % 4] >> i / 4 * 4 & 0x0F0F0F0Fu; }

// Bit l of `high` is the fifth of weight l. The product puts four bits into four bytes.
__device__ inline uint32_t fifth(uint32_t high, int i) { return (high >> 4 * i & 15) * 0x02040810u & 0x10101010u; }

// Such a type: LOW words of codes, a fifth bit of each or none, and a scale, alone or with a minimum.
template <int LOW, bool FIFTH, bool MINIMA>
struct Plain : Layout<1, 1, MINIMA, LOW, 1, 1> {
  using Base = Layout<1, 1, MINIMA, LOW, 1, 1>;
  static __device__ inline void read(typename Base::Planes plane, size_t at, int, typename Base::Raw &to) {
    words(plane[FIFTH ? 2 : 1], 4 * LOW * at, to.low);
    if (FIFTH) to.high[0] = field<uint32_t>(plane[1], 4 * at);
    to.small[0] = MINIMA ? field<uint32_t>(plane[0], 4 * at) : field<uint16_t>(plane[0], 2 * at);
  }
  static __device__ inline void scales(const typename Base::Raw &from, typename Base::Of &to) {
    to.scale[0] = low_half(from.small[0]);
    if (MINIMA) to.minimum[0] = -high_half(from.small[0]);
  }
};

template <>
struct Codes<Q4_0> : Plain<4, false, false> {
  static __device__ inline void unpack(const Raw &from, int, Of &to) {
#pragma unroll
    for (int i = 0; i < 8; i++) to.code[i] = less<8>(nibbles(from.low, i));
    scales(from, to);
  }
};

template <>
struct Codes<Q4_1> : Plain<4, false, true> {
  static __device__ inline void unpack(const Raw &from, int, Of &to) {
#pragma unroll
    for (int i = 0; i < 8; i++) to.code[i] = int(nibbles(from.low, i));
    scales(from, to);
  }
};

template <>
struct Codes<Q5_0> : Plain<4, true, false> {
  static __device__ inline void unpack(const Raw &from, int, Of &to) {
#pragma unroll
    for (int i = 0; i < 8; i++) to.code[i] = less<16>(nibbles(from.low, i) | fifth(from.high[0], i));
    scales(from, to);
  }
};

template <>
struct Codes<Q5_1> : Plain<4, true, true> {
  static __device__ inline void unpack(const Raw &from, int, Of &to) {
#pragma unroll
    for (int i = 0; i < 8; i++) to.code[i] = int(nibbles(from.low, i) | fifth(from.high[0], i));
    scales(from, to);
  }
};

template <>
struct Codes<Q8_0> : Plain<8, false, false> {
  static __device__ inline void unpack(const Raw &from, int, Of &to) {
#pragma unroll
    for (int i = 0; i < 8; i++) to.code[i] = int(from.low[i]);
    scales(from, to);
  }
};

// ---- the types whose nibbles are places in a table

// Values of the nibbles of 16 bytes that lie as in Q4_0. Eight nibbles of a word are looked up in both halves of the
// table by their low three bits, then chosen by the fourth; even places are the word's low nibbles, odd the high.
__device__ inline void table_values(const uint32_t (&q)[4], int (&to)[8]) {
  constexpr uint32_t VALUES[4] = {0xBFAD9881u, 0xF6EADDCFu, 0x26190D01u, 0x71594535u};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    uint32_t half = 0x32103210u | (q[i] & 0x88888888u) >> 1, found[2];
#pragma unroll
    for (int k = 0; k < 2; k++) {
      uint32_t low = permute(VALUES[0], VALUES[1], q[i] >> 16 * k), high = permute(VALUES[2], VALUES[3], q[i] >> 16 * k);
      found[k] = permute(low, high, half >> 16 * k);
    }
    to[i] = int(permute(found[0], found[1], 0x6420));
    to[i + 4] = int(permute(found[0], found[1], 0x7531));
  }
}

template <>
struct Codes<IQ4_NL> : Plain<4, false, false> {
  static __device__ inline void unpack(const Raw &from, int, Of &to) {
    table_values(from.low, to.code);
    scales(from, to);
  }
};

template <>
struct Codes<IQ4_XS> : Layout<8, 1, false, 4, 1, 2> {
  static __device__ inline void read(Planes plane, size_t at, int j, Raw &to) {
    words(plane[1], 128 * at + 16 * j, to.low);
    uint2 head = field<uint2>(plane[0], 8 * at);
    to.small[0] = head.y, to.small[1] = head.x;
  }
  static __device__ inline void unpack(const Raw &from, int j, Of &to) {
    table_values(from.low, to.code);
    int scale = int(from.small[0] >> 4 * j & 15) | int(from.small[1] >> (16 + 2 * j) & 3) << 4;
    to.scale[0] = low_half(from.small[1]) * float(scale - 32);
  }
};

// ---- 256 weights to a block

// Scale and minimum of run j of Q4_K and Q5_K in twelve bytes, see `scale_min` in blocks/k.rs.
__device__ inline void six_bits(const uint32_t (&small)[4], int j, Weights<1> &to) {
  int shift = 8 * (j & 3);
  uint32_t a = small[0] >> shift, b = small[1] >> shift, c = small[2] >> shift;
  uint32_t scale = j < 4 ? a & 63 : (c & 15) | (a >> 2 & 48);
  uint32_t minimum = j < 4 ? b & 63 : (c >> 4 & 15) | (b >> 2 & 48);
  to.scale[0] = low_half(small[3]) * float(int(scale));
  to.minimum[0] = high_half(small[3]) * float(int(minimum));
}

__device__ inline void read_six_bits(const uint8_t *const *plane, size_t at, uint32_t (&small)[4]) {
#pragma unroll
  for (int i = 0; i < 3; i++) small[i] = field<uint32_t>(plane[1], 12 * at + 4 * i);
  small[3] = field<uint32_t>(plane[0], 4 * at);
}

template <>
struct Codes<Q4_K> : Layout<8, 1, true, 8, 1, 4> {
  static __device__ inline void read(Planes plane, size_t at, int j, Raw &to) {
    words(plane[2], 128 * at + 32 * (j / 2), to.low);
    read_six_bits(plane, at, to.small);
  }
  static __device__ inline void unpack(const Raw &from, int j, Of &to) {
#pragma unroll
    for (int i = 0; i < 8; i++) to.code[i] = int(from.low[i] >> 4 * (j & 1) & 0x0F0F0F0Fu);
    six_bits(from.small, j, to);
  }
};

template <>
struct Codes<Q5_K> : Layout<8, 1, true, 8, 8, 4> {
  static __device__ inline void read(Planes plane, size_t at, int j, Raw &to) {
    words(plane[3], 128 * at + 32 * (j / 2), to.low);
    words(plane[2], 32 * at, to.high);
    read_six_bits(plane, at, to.small);
  }
  static __device__ inline void unpack(const Raw &from, int j, Of &to) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
      to.code[i] = int((from.low[i] >> 4 * (j & 1) & 0x0F0F0F0Fu) | (from.high[i] >> j & 0x01010101u) << 4);
    }
    six_bits(from.small, j, to);
  }
};

template <>
struct Codes<Q2_K> : Layout<8, 2, true, 8, 1, 2> {
  static __device__ inline void read(Planes plane, size_t at, int j, Raw &to) {
    words(plane[2], 64 * at + 32 * (j / 4), to.low);
    to.small[0] = field<uint16_t>(plane[1], 16 * at + 2 * j);
    to.small[1] = field<uint32_t>(plane[0], 4 * at);
  }
  static __device__ inline void unpack(const Raw &from, int j, Of &to) {
#pragma unroll
    for (int i = 0; i < 8; i++) to.code[i] = int(from.low[i] >> 2 * (j & 3) & 0x03030303u);
    float d = low_half(from.small[1]), m = high_half(from.small[1]);
#pragma unroll
    for (int s = 0; s < 2; s++) {
      to.scale[s] = d * float(int(from.small[0] >> 8 * s & 15));
      to.minimum[s] = m * float(int(from.small[0] >> (8 * s + 4) & 15));
    }
  }
};

template <>
struct Codes<Q3_K> : Layout<8, 2, false, 8, 8, 3> {
  // Runs of 16 are 2j and 2j + 1. Their scales' low bits are in bytes run % 8, the high bits in bytes 8 + run % 4.
  static __device__ inline void read(Planes plane, size_t at, int j, Raw &to) {
    words(plane[3], 64 * at + 32 * (j / 4), to.low);
    words(plane[2], 32 * at, to.high);
    to.small[0] = field<uint32_t>(plane[1], 12 * at + (j & 2) * 2);
    to.small[1] = field<uint32_t>(plane[1], 12 * at + 8);
    to.small[2] = field<uint16_t>(plane[0], 2 * at);
  }
  static __device__ inline void unpack(const Raw &from, int j, Of &to) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
      to.code[i] = less<4>((from.low[i] >> 2 * (j & 3) & 0x03030303u) | (from.high[i] >> j & 0x01010101u) << 2);
    }
    uint32_t low = from.small[0] >> (16 * (j & 1) + j / 4 * 4), high = from.small[1] >> (16 * (j & 1) + j / 2 * 2);
    float d = low_half(from.small[2]);
#pragma unroll
    for (int s = 0; s < 2; s++) to.scale[s] = d * float(int((low >> 8 * s & 15) | (high >> 8 * s & 3) << 4) - 32);
  }
};

template <>
struct Codes<Q6_K> : Layout<8, 2, false, 8, 8, 2> {
  static __device__ inline void read(Planes plane, size_t at, int j, Raw &to) {
    words(plane[3], 128 * at + 64 * (j / 4) + 32 * (j & 1), to.low);
    words(plane[2], 64 * at + 32 * (j / 4), to.high);
    to.small[0] = field<uint16_t>(plane[1], 16 * at + 2 * j);
    to.small[1] = field<uint16_t>(plane[0], 2 * at);
  }
  static __device__ inline void unpack(const Raw &from, int j, Of &to) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
      to.code[i] = less<32>((from.low[i] >> 2 * (j & 2) & 0x0F0F0F0Fu) | (from.high[i] >> 2 * (j & 3) & 0x03030303u) << 4);
    }
    float d = low_half(from.small[1]);
#pragma unroll
    for (int s = 0; s < 2; s++) to.scale[s] = d * float(int8_t(from.small[0] >> 8 * s));
  }
};

// ---- what has no codes

// Number `at` of a float type as f32.
template <int TYPE>
__device__ inline float number(const uint8_t *plane, size_t at) {
  if (TYPE == F32) return field<float>(plane, 4 * at);
  uint16_t bits = field<uint16_t>(plane, 2 * at);
  return TYPE == F16 ? half_to_float(bits) : as_float(uint32_t(bits) << 16);
}

// Calls `launcher<TYPE>(…)` for the part's type.
#define CODER_BY_TYPE(type, launcher, ...)                         \
  switch (type) {                                                  \
    case F32: return launcher<F32>(__VA_ARGS__);                   \
    case F16: return launcher<F16>(__VA_ARGS__);                   \
    case BF16: return launcher<BF16>(__VA_ARGS__);                 \
    case Q4_0: return launcher<Q4_0>(__VA_ARGS__);                 \
    case Q4_1: return launcher<Q4_1>(__VA_ARGS__);                 \
    case Q5_0: return launcher<Q5_0>(__VA_ARGS__);                 \
    case Q5_1: return launcher<Q5_1>(__VA_ARGS__);                 \
    case Q8_0: return launcher<Q8_0>(__VA_ARGS__);                 \
    case Q2_K: return launcher<Q2_K>(__VA_ARGS__);                 \
    case Q3_K: return launcher<Q3_K>(__VA_ARGS__);                 \
    case Q4_K: return launcher<Q4_K>(__VA_ARGS__);                 \
    case Q5_K: return launcher<Q5_K>(__VA_ARGS__);                 \
    case Q6_K: return launcher<Q6_K>(__VA_ARGS__);                 \
    case IQ4_NL: return launcher<IQ4_NL>(__VA_ARGS__);             \
    case IQ4_XS: return launcher<IQ4_XS>(__VA_ARGS__);             \
    default: return refuse("weights of a type that no kernel knows"); \
  }

}  // namespace CODER_NAMESPACE
