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

// Numbers alike in all types of one layout: file blocks of `RUNS` runs, scales for each run, and whether they have minima.
template <int RUNS_, int SCALES_, bool MINIMA_>
struct Layout {
  static constexpr int RUNS = RUNS_, SCALES = SCALES_;
  static constexpr bool MINIMA = MINIMA_;
  using Of = Weights<SCALES_>;
};

// Codes<TYPE>::read(plane, at, j, to): run `j` of block `at` of a part, counted from the part's first block.
template <int TYPE>
struct Codes;

constexpr __host__ __device__ bool is_float(int type) { return type == F32 || type == F16 || type == BF16; }

template <typename T>
__device__ inline T field(const uint8_t *plane, size_t byte) {
  return *reinterpret_cast<const T *>(plane + byte);
}

__device__ inline float half_at(const uint8_t *plane, size_t at) { return half_to_float(field<uint16_t>(plane, 2 * at)); }

// A scale and a second number side by side.
__device__ inline float2 halves_at(const uint8_t *plane, size_t at) {
  uint32_t both = field<uint32_t>(plane, 4 * at);
  return make_float2(half_to_float(uint16_t(both)), half_to_float(uint16_t(both >> 16)));
}

__device__ inline void read_16(const uint8_t *plane, size_t byte, uint32_t (&to)[4]) {
  uint4 v = field<uint4>(plane, byte);
  to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}

__device__ inline void read_32(const uint8_t *plane, size_t byte, uint32_t (&to)[8]) {
  uint4 a = field<uint4>(plane, byte), b = field<uint4>(plane, byte + 16);
  to[0] = a.x, to[1] = a.y, to[2] = a.z, to[3] = a.w, to[4] = b.x, to[5] = b.y, to[6] = b.z, to[7] = b.w;
}

// Each of four bytes below 128 less OFFSET: the top bits keep one byte's borrow from the next.
template <int OFFSET>
__device__ inline int less(uint32_t bytes) {
  return int(((bytes | 0x80808080u) - OFFSET * 0x01010101u) ^ 0x80808080u);
}

// ---- 32 weights to a block: byte l of the nibbles has weight l low and weight l + 16 high

__device__ inline void nibbles(const uint8_t *plane, size_t byte, uint32_t (&to)[8]) {
  uint32_t q[4];
  read_16(plane, byte, q);
#pragma unroll
  for (int i = 0; i < 4; i++) {
    to[i] = q[i] & 0x0F0F0F0Fu;
    to[i + 4] = q[i] >> 4 & 0x0F0F0F0Fu;
  }
}

// The same with a fifth bit: bit l of `high` is that of weight l. The product puts four bits into four bytes.
__device__ inline void fives(const uint8_t *plane, size_t byte, uint32_t high, uint32_t (&to)[8]) {
  nibbles(plane, byte, to);
#pragma unroll
  for (int i = 0; i < 8; i++) to[i] |= (high >> 4 * i & 15) * 0x02040810u & 0x10101010u;
}

template <int OFFSET, int SCALES>
__device__ inline void give(const uint32_t (&q)[8], Weights<SCALES> &to) {
#pragma unroll
  for (int i = 0; i < 8; i++) to.code[i] = OFFSET == 0 ? int(q[i]) : less<OFFSET>(q[i]);
}

template <>
struct Codes<Q4_0> : Layout<1, 1, false> {
  static __device__ inline void read(const uint8_t *const *plane, size_t at, int, Of &to) {
    uint32_t q[8];
    nibbles(plane[1], 16 * at, q);
    give<8>(q, to);
    to.scale[0] = half_at(plane[0], at);
  }
};

template <>
struct Codes<Q4_1> : Layout<1, 1, true> {
  static __device__ inline void read(const uint8_t *const *plane, size_t at, int, Of &to) {
    uint32_t q[8];
    nibbles(plane[1], 16 * at, q);
    give<0>(q, to);
    float2 dm = halves_at(plane[0], at);
    to.scale[0] = dm.x, to.minimum[0] = -dm.y;
  }
};

template <>
struct Codes<Q5_0> : Layout<1, 1, false> {
  static __device__ inline void read(const uint8_t *const *plane, size_t at, int, Of &to) {
    uint32_t q[8];
    fives(plane[2], 16 * at, field<uint32_t>(plane[1], 4 * at), q);
    give<16>(q, to);
    to.scale[0] = half_at(plane[0], at);
  }
};

template <>
struct Codes<Q5_1> : Layout<1, 1, true> {
  static __device__ inline void read(const uint8_t *const *plane, size_t at, int, Of &to) {
    uint32_t q[8];
    fives(plane[2], 16 * at, field<uint32_t>(plane[1], 4 * at), q);
    give<0>(q, to);
    float2 dm = halves_at(plane[0], at);
    to.scale[0] = dm.x, to.minimum[0] = -dm.y;
  }
};

template <>
struct Codes<Q8_0> : Layout<1, 1, false> {
  static __device__ inline void read(const uint8_t *const *plane, size_t at, int, Of &to) {
    uint32_t q[8];
    read_32(plane[1], 32 * at, q);
    give<0>(q, to);
    to.scale[0] = half_at(plane[0], at);
  }
};

// ---- the types whose nibbles are places in a table

// Byte i of the result is byte (selector >> 4i & 7) of the eight of a, b.
__device__ inline uint32_t permute(uint32_t a, uint32_t b, uint32_t selector) {
#ifdef CODER_EMULATOR
  uint64_t bytes = uint64_t(b) << 32 | a;
  uint32_t to = 0;
  for (int i = 0; i < 4; i++) to |= uint32_t(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
  return to;
#else
  return __byte_perm(a, b, selector);
#endif
}

// Values of the nibbles of 16 bytes that lie as in Q4_0. Eight nibbles of a word are looked up in both halves of the
// table by their low three bits, then chosen by the fourth; even places are the word's low nibbles, odd the high.
__device__ inline void table_values(const uint8_t *plane, size_t byte, uint32_t (&to)[8]) {
  constexpr uint32_t VALUES[4] = {0xBFAD9881u, 0xF6EADDCFu, 0x26190D01u, 0x71594535u};
  uint32_t q[4];
  read_16(plane, byte, q);
#pragma unroll
  for (int i = 0; i < 4; i++) {
    uint32_t half = 0x32103210u | (q[i] & 0x88888888u) >> 1, found[2];
#pragma unroll
    for (int k = 0; k < 2; k++) {
      uint32_t low = permute(VALUES[0], VALUES[1], q[i] >> 16 * k), high = permute(VALUES[2], VALUES[3], q[i] >> 16 * k);
      found[k] = permute(low, high, half >> 16 * k);
    }
    to[i] = permute(found[0], found[1], 0x6420);
    to[i + 4] = permute(found[0], found[1], 0x7531);
  }
}

template <>
struct Codes<IQ4_NL> : Layout<1, 1, false> {
  static __device__ inline void read(const uint8_t *const *plane, size_t at, int, Of &to) {
    uint32_t q[8];
    table_values(plane[1], 16 * at, q);
    give<0>(q, to);
    to.scale[0] = half_at(plane[0], at);
  }
};

template <>
struct Codes<IQ4_XS> : Layout<8, 1, false> {
  static __device__ inline void read(const uint8_t *const *plane, size_t at, int j, Of &to) {
    uint32_t q[8];
    table_values(plane[1], 128 * at + 16 * j, q);
    give<0>(q, to);
    uint2 head = field<uint2>(plane[0], 8 * at);
    int scale = int(head.y >> 4 * j & 15) | int(head.x >> (16 + 2 * j) & 3) << 4;
    to.scale[0] = half_to_float(uint16_t(head.x)) * float(scale - 32);
  }
};

// ---- 256 weights to a block

// Q4_K and Q5_K: scale and minimum of run j in twelve bytes, see `scale_min` in blocks/k.rs.
__device__ inline void six_bits(const uint8_t *const *plane, size_t at, int j, Weights<1> &to) {
  int shift = 8 * (j & 3);
  uint32_t a = field<uint32_t>(plane[1], 12 * at) >> shift;
  uint32_t b = field<uint32_t>(plane[1], 12 * at + 4) >> shift;
  uint32_t c = field<uint32_t>(plane[1], 12 * at + 8) >> shift;
  uint32_t scale = j < 4 ? a & 63 : (c & 15) | (a >> 2 & 48);
  uint32_t minimum = j < 4 ? b & 63 : (c >> 4 & 15) | (b >> 2 & 48);
  float2 dm = halves_at(plane[0], at);
  to.scale[0] = dm.x * float(int(scale));
  to.minimum[0] = dm.y * float(int(minimum));
}

template <>
struct Codes<Q4_K> : Layout<8, 1, true> {
  static __device__ inline void read(const uint8_t *const *plane, size_t at, int j, Of &to) {
    uint32_t q[8];
    read_32(plane[2], 128 * at + 32 * (j / 2), q);
#pragma unroll
    for (int i = 0; i < 8; i++) to.code[i] = int(q[i] >> 4 * (j & 1) & 0x0F0F0F0Fu);
    six_bits(plane, at, j, to);
  }
};

template <>
struct Codes<Q5_K> : Layout<8, 1, true> {
  static __device__ inline void read(const uint8_t *const *plane, size_t at, int j, Of &to) {
    uint32_t q[8], h[8];
    read_32(plane[3], 128 * at + 32 * (j / 2), q);
    read_32(plane[2], 32 * at, h);
#pragma unroll
    for (int i = 0; i < 8; i++) to.code[i] = int((q[i] >> 4 * (j & 1) & 0x0F0F0F0Fu) | (h[i] >> j & 0x01010101u) << 4);
    six_bits(plane, at, j, to);
  }
};

template <>
struct Codes<Q2_K> : Layout<8, 2, true> {
  static __device__ inline void read(const uint8_t *const *plane, size_t at, int j, Of &to) {
    uint32_t q[8];
    read_32(plane[2], 64 * at + 32 * (j / 4), q);
#pragma unroll
    for (int i = 0; i < 8; i++) to.code[i] = int(q[i] >> 2 * (j & 3) & 0x03030303u);
    uint32_t s = field<uint16_t>(plane[1], 16 * at + 2 * j);
    float2 dm = halves_at(plane[0], at);
    to.scale[0] = dm.x * float(int(s & 15)), to.scale[1] = dm.x * float(int(s >> 8 & 15));
    to.minimum[0] = dm.y * float(int(s >> 4 & 15)), to.minimum[1] = dm.y * float(int(s >> 12));
  }
};

template <>
struct Codes<Q3_K> : Layout<8, 2, false> {
  static __device__ inline void read(const uint8_t *const *plane, size_t at, int j, Of &to) {
    uint32_t q[8], h[8];
    read_32(plane[3], 64 * at + 32 * (j / 4), q);
    read_32(plane[2], 32 * at, h);
#pragma unroll
    for (int i = 0; i < 8; i++) to.code[i] = less<4>((q[i] >> 2 * (j & 3) & 0x03030303u) | (h[i] >> j & 0x01010101u) << 2);
    // Runs of 16 are 2j and 2j + 1: four low bits in byte run % 8, two high bits in byte 8 + run % 4.
    uint32_t low = field<uint32_t>(plane[1], 12 * at + (j & 2) * 2) >> (16 * (j & 1) + j / 4 * 4);
    uint32_t high = field<uint32_t>(plane[1], 12 * at + 8) >> (16 * (j & 1) + j / 2 * 2);
    float d = half_at(plane[0], at);
    to.scale[0] = d * float(int((low & 15) | (high & 3) << 4) - 32);
    to.scale[1] = d * float(int((low >> 8 & 15) | (high >> 8 & 3) << 4) - 32);
  }
};

template <>
struct Codes<Q6_K> : Layout<8, 2, false> {
  static __device__ inline void read(const uint8_t *const *plane, size_t at, int j, Of &to) {
    uint32_t q[8], h[8];
    read_32(plane[3], 128 * at + 64 * (j / 4) + 32 * (j & 1), q);
    read_32(plane[2], 64 * at + 32 * (j / 4), h);
#pragma unroll
    for (int i = 0; i < 8; i++) {
      to.code[i] = less<32>((q[i] >> 2 * (j & 2) & 0x0F0F0F0Fu) | (h[i] >> 2 * (j & 3) & 0x03030303u) << 4);
    }
    uint32_t s = field<uint16_t>(plane[1], 16 * at + 2 * j);
    float d = half_at(plane[0], at);
    to.scale[0] = d * float(int8_t(s)), to.scale[1] = d * float(int8_t(s >> 8));
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
