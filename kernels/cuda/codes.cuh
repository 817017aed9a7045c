// What the planes of quantized weights mean: a lane's share of a unit as signed bytes, with scales and minima.
//
// weight = scale · code − minimum, each step rounded to f32: the very numbers of blocks/*.rs. Offsets of a type (the 8 of
// Q4_0, say) are within the codes, which fit a signed byte. Scales of the K types and of IQ4_XS are small integers times a
// float of the block; those of the others are floats.
//
// A unit has UNIT weights of a row: four runs of eight words of four. Of each run, lane t of four has words t and t + 4,
// which is how tensor cores want them, so its share is 32 weights, and planes.rs has put them together. With a lane's word
// 2r + k from half k of run r, its planes are, as far as a type has them:
//   low four bits     16 bytes, word r: word 2r in the low, word 2r + 1 in the high half of each byte
//   two bits           8 bytes, word r / 2: words 2r and 2r + 1 from bit 4 · (r % 2) on
//   one bit            4 bytes: word i at bit i
//   eight bits        32 bytes: the words
// Plane f begins on 256 bytes, so a field is as aligned as its length.
#pragma once

#include "common.cuh"

namespace CODER_NAMESPACE {

constexpr __host__ __device__ bool is_float(int type) { return type == F32 || type == F16 || type == BF16; }

// A lane's share of a unit, of a type whose scales are integers: of a run each, or two, of its halves.
template <int SCALES>
struct IntegerWeights {
  int code[2 * UNIT_RUNS];
  uint32_t scale[SCALES], minimum[SCALES];  // signed and unsigned bytes, in the order of the inputs
  float d, m;                               // what they are times
};

// Of a type whose scales are floats: of each run a scale and what is added, as halves, as which they take less room.
struct FloatWeights {
  int code[2 * UNIT_RUNS];
  uint32_t halves[UNIT_RUNS];
};

// Bytes of a unit in each plane (planes.rs): a plane's in a byte of the word. Those of a block of two units are halved.
constexpr __host__ __device__ uint32_t unit_bytes(int type) {
  switch (type) {
    case Q4_0:
    case IQ4_NL: return 8 | 64 << 8;
    case Q4_1: return 16 | 64 << 8;
    case Q5_0: return 8 | 16 << 8 | 64 << 16;
    case Q5_1: return 16 | 16 << 8 | 64 << 16;
    case Q8_0: return 8 | 128 << 8;
    case Q2_K: return 2 | 8 << 8 | 32 << 16;
    case Q3_K: return 1 | 6 << 8 | 16 << 16 | 32 << 24;
    case Q4_K: return 8 | 64 << 8;
    case Q5_K: return 8 | 16 << 8 | 64 << 16;
    case Q6_K: return 1 | 8 << 8 | 32 << 16 | 64 << 24;
    case IQ4_XS: return 4 | 64 << 8;
    default: return 0;
  }
}

// A type: whether scales are integers, how many a run has, whether there are minima, and words as they lie in memory. Taking a
// unit apart has two steps, so that a kernel can read one while it works on another:
//   read(plane, unit, t, raw)    lane t's share of a unit, counted from the part's first; its row has an even number of them
//                                if scales are integers
//   unpack(raw, unit, weights)
template <bool INTEGER_, int SCALES_, bool MINIMA_, int LOW, int HIGH, int SMALL>
struct Layout {
  static constexpr bool INTEGER = INTEGER_, MINIMA = MINIMA_;
  static constexpr int SCALES = SCALES_;
  using Of = std::conditional_t<INTEGER, IntegerWeights<SCALES>, FloatWeights>;
  using Planes = const uint8_t *const *;
  struct Raw {
    uint32_t low[LOW];      // bits of the codes
    uint32_t high[HIGH];    // and those that lie apart
    uint32_t small[SMALL];  // scales
  };
};

template <int TYPE>
struct Codes;

template <typename T>
__device__ inline T field(const uint8_t *plane, size_t byte) {
  return *reinterpret_cast<const T *>(plane + byte);
}

// Bytes before number `n` of things of `bytes` bytes: units are counted in 32 bits, so that a product is one instruction.
__device__ inline size_t before(uint32_t n, uint32_t bytes) { return size_t(n) * bytes; }

// N words, read as wide as they are aligned.
template <int N>
__device__ inline void words(const uint8_t *plane, size_t byte, uint32_t *to) {
  if constexpr (N == 1) {
    to[0] = field<uint32_t>(plane, byte);
  } else if constexpr (N == 2) {
    uint2 v = field<uint2>(plane, byte);
    to[0] = v.x, to[1] = v.y;
  } else {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      uint4 v = field<uint4>(plane, byte + 4 * i);
      to[i] = v.x, to[i + 1] = v.y, to[i + 2] = v.z, to[i + 3] = v.w;
    }
  }
}

// A lane's N words of a unit's 4N.
template <int N>
__device__ inline void share(const uint8_t *plane, uint32_t unit, int t, uint32_t *to) {
  words<N>(plane, before(unit * 4 + t, 4 * N), to);
}

// Each of four bytes below 128 less OFFSET: the top bits keep one byte's borrow from the next.
template <int OFFSET>
__device__ inline int less(uint32_t bytes) {
  return int(((bytes | 0x80808080u) - OFFSET * 0x01010101u) ^ 0x80808080u);
}

// Bits of `word` from bit `from` on, moved to bit `to` of each byte; `mask` has them there.
__device__ inline uint32_t moved(uint32_t word, int from, int to, uint32_t mask) {
  return (from < to ? word << (to - from) : word >> (from - to)) & mask;
}

// Word i of a lane's eight, unsigned.
__device__ inline uint32_t nibbles(const uint32_t *low, int i) { return low[i / 2] >> i % 2 * 4 & 0x0F0F0F0Fu; }
__device__ inline uint32_t pairs(const uint32_t *two, int i, int to) { return moved(two[i / 4], i % 4 * 2, to, 0x03030303u << to); }
__device__ inline uint32_t bits(uint32_t one, int i, int to) { return moved(one, i, to, 0x01010101u << to); }

// ---- scales that are floats

// LOW words of codes a lane, a fifth bit of each or none, and for each run a scale, alone or with a minimum.
template <int LOW, bool FIFTH, bool MINIMA>
struct Plain : Layout<false, 1, MINIMA, LOW, 1, MINIMA ? 4 : 2> {
  using Base = Layout<false, 1, MINIMA, LOW, 1, MINIMA ? 4 : 2>;
  static __device__ inline void read(typename Base::Planes plane, uint32_t unit, int t, typename Base::Raw &to) {
    share<LOW>(plane[FIFTH ? 2 : 1], unit, t, to.low);
    if (FIFTH) share<1>(plane[1], unit, t, to.high);
    words<MINIMA ? 4 : 2>(plane[0], before(unit, MINIMA ? 16 : 8), to.small);
  }
  static __device__ inline void scales(const typename Base::Raw &from, typename Base::Of &to) {
#pragma unroll
    for (int r = 0; r < UNIT_RUNS; r++) to.halves[r] = MINIMA ? from.small[r] : from.small[r / 2] >> r % 2 * 16;
  }
};

template <>
struct Codes<Q4_0> : Plain<4, false, false> {
  static __device__ inline void unpack(const Raw &from, uint32_t, Of &to) {
#pragma unroll
    for (int i = 0; i < 8; i++) to.code[i] = less<8>(nibbles(from.low, i));
    scales(from, to);
  }
};

template <>
struct Codes<Q4_1> : Plain<4, false, true> {
  static __device__ inline void unpack(const Raw &from, uint32_t, Of &to) {
#pragma unroll
    for (int i = 0; i < 8; i++) to.code[i] = int(nibbles(from.low, i));
    scales(from, to);
  }
};

template <>
struct Codes<Q5_0> : Plain<4, true, false> {
  static __device__ inline void unpack(const Raw &from, uint32_t, Of &to) {
#pragma unroll
    for (int i = 0; i < 8; i++) to.code[i] = less<16>(nibbles(from.low, i) | bits(from.high[0], i, 4));
    scales(from, to);
  }
};

template <>
struct Codes<Q5_1> : Plain<4, true, true> {
  static __device__ inline void unpack(const Raw &from, uint32_t, Of &to) {
#pragma unroll
    for (int i = 0; i < 8; i++) to.code[i] = int(nibbles(from.low, i) | bits(from.high[0], i, 4));
    scales(from, to);
  }
};

template <>
struct Codes<Q8_0> : Plain<8, false, false> {
  static __device__ inline void unpack(const Raw &from, uint32_t, Of &to) {
#pragma unroll
    for (int i = 0; i < 8; i++) to.code[i] = int(from.low[i]);
    scales(from, to);
  }
};

// ---- the types whose nibbles are places in a table

// Values of a lane's nibbles. Eight nibbles of a word are looked up in both halves of the table by their low three bits, then
// chosen by the fourth; even places are the word's low nibbles, odd the high.
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
    to[2 * i] = int(permute(found[0], found[1], 0x6420));
    to[2 * i + 1] = int(permute(found[0], found[1], 0x7531));
  }
}

template <>
struct Codes<IQ4_NL> : Plain<4, false, false> {
  static __device__ inline void unpack(const Raw &from, uint32_t, Of &to) {
    table_values(from.low, to.code);
    scales(from, to);
  }
};

// ---- scales that are integers, two units to a block

// d, then two high bits of each scale; then their four low bits.
template <>
struct Codes<IQ4_XS> : Layout<true, 1, false, 4, 1, 2> {
  static __device__ inline void read(Planes plane, uint32_t unit, int t, Raw &to) {
    share<4>(plane[1], unit, t, to.low);
    words<2>(plane[0], before(unit / 2, 8), to.small);
  }
  static __device__ inline void unpack(const Raw &from, uint32_t unit, Of &to) {
    table_values(from.low, to.code);
    uint32_t low = from.small[1] >> (unit % 2 * 16), high = from.small[0] >> (16 + unit % 2 * 8), bytes = 0;
#pragma unroll
    for (int r = 0; r < UNIT_RUNS; r++) bytes |= ((low >> 4 * r & 15) | (high >> 2 * r & 3) << 4) << 8 * r;
    to.scale[0] = uint32_t(less<32>(bytes));
    to.d = low_half(from.small[0]);
  }
};

// Q4_K's and Q5_K's: d, m, and six bits each of eight scales and minima in twelve bytes, see `scale_min` in blocks/k.rs.
__device__ inline void six_bits(const uint32_t (&small)[4], bool last, IntegerWeights<1> &to) {
  to.scale[0] = last ? (small[3] & 0x0F0F0F0Fu) | (small[1] >> 2 & 0x30303030u) : small[1] & 0x3F3F3F3Fu;
  to.minimum[0] = last ? (small[3] >> 4 & 0x0F0F0F0Fu) | (small[2] >> 2 & 0x30303030u) : small[2] & 0x3F3F3F3Fu;
  to.d = low_half(small[0]), to.m = high_half(small[0]);
}

template <>
struct Codes<Q4_K> : Layout<true, 1, true, 4, 1, 4> {
  static __device__ inline void read(Planes plane, uint32_t unit, int t, Raw &to) {
    share<4>(plane[1], unit, t, to.low);
    words<4>(plane[0], before(unit / 2, 16), to.small);
  }
  static __device__ inline void unpack(const Raw &from, uint32_t unit, Of &to) {
#pragma unroll
    for (int i = 0; i < 8; i++) to.code[i] = int(nibbles(from.low, i));
    six_bits(from.small, unit % 2, to);
  }
};

template <>
struct Codes<Q5_K> : Layout<true, 1, true, 4, 1, 4> {
  static __device__ inline void read(Planes plane, uint32_t unit, int t, Raw &to) {
    share<4>(plane[2], unit, t, to.low);
    share<1>(plane[1], unit, t, to.high);
    words<4>(plane[0], before(unit / 2, 16), to.small);
  }
  static __device__ inline void unpack(const Raw &from, uint32_t unit, Of &to) {
#pragma unroll
    for (int i = 0; i < 8; i++) to.code[i] = int(nibbles(from.low, i) | bits(from.high[0], i, 4));
    six_bits(from.small, unit % 2, to);
  }
};

// A scale and a minimum of each 16 in a byte.
template <>
struct Codes<Q2_K> : Layout<true, 2, true, 2, 1, 3> {
  static __device__ inline void read(Planes plane, uint32_t unit, int t, Raw &to) {
    share<2>(plane[2], unit, t, to.low);
    words<2>(plane[1], before(unit, 8), to.small);
    to.small[2] = field<uint32_t>(plane[0], before(unit / 2, 4));
  }
  static __device__ inline void unpack(const Raw &from, uint32_t, Of &to) {
#pragma unroll
    for (int i = 0; i < 8; i++) to.code[i] = int(pairs(from.low, i, 0));
#pragma unroll
    for (int s = 0; s < 2; s++) {
      to.scale[s] = from.small[s] & 0x0F0F0F0Fu, to.minimum[s] = from.small[s] >> 4 & 0x0F0F0F0Fu;
    }
    to.d = low_half(from.small[2]), to.m = high_half(from.small[2]);
  }
};

// Of scale i of sixteen, byte i % 8 has the low bits, byte 8 + i % 4 the high ones.
template <>
struct Codes<Q3_K> : Layout<true, 2, false, 2, 1, 4> {
  static __device__ inline void read(Planes plane, uint32_t unit, int t, Raw &to) {
    share<2>(plane[3], unit, t, to.low);
    share<1>(plane[2], unit, t, to.high);
#pragma unroll
    for (int i = 0; i < 3; i++) to.small[i] = field<uint32_t>(plane[1], before(unit / 2, 12) + 4 * i);
    to.small[3] = field<uint16_t>(plane[0], before(unit / 2, 2));
  }
  static __device__ inline void unpack(const Raw &from, uint32_t unit, Of &to) {
#pragma unroll
    for (int i = 0; i < 8; i++) to.code[i] = less<4>(pairs(from.low, i, 0) | bits(from.high[0], i, 2));
    int shift = int(unit % 2) * 4;
#pragma unroll
    for (int s = 0; s < 2; s++) {
      uint32_t low = from.small[s] >> shift & 0x0F0F0F0Fu, high = from.small[2] >> (shift + 2 * s) & 0x03030303u;
      to.scale[s] = uint32_t(less<32>(low | high << 4));
    }
    to.d = low_half(from.small[3]);
  }
};

// A signed byte for each 16.
template <>
struct Codes<Q6_K> : Layout<true, 2, false, 4, 2, 3> {
  static __device__ inline void read(Planes plane, uint32_t unit, int t, Raw &to) {
    share<4>(plane[3], unit, t, to.low);
    share<2>(plane[2], unit, t, to.high);
    words<2>(plane[1], before(unit, 8), to.small);
    to.small[2] = field<uint16_t>(plane[0], before(unit / 2, 2));
  }
  static __device__ inline void unpack(const Raw &from, uint32_t, Of &to) {
#pragma unroll
    for (int i = 0; i < 8; i++) to.code[i] = less<32>(nibbles(from.low, i) | pairs(from.high, i, 4));
    to.scale[0] = from.small[0], to.scale[1] = from.small[1];
    to.d = low_half(from.small[2]);
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

// Calls `launcher<TYPE>(…)` for the part's type, of those that numbers or codes have.
#define CODER_FLOATS(launcher, ...)              \
  case F32: return launcher<F32>(__VA_ARGS__);   \
  case F16: return launcher<F16>(__VA_ARGS__);   \
  case BF16: return launcher<BF16>(__VA_ARGS__);
#define CODER_CODES(launcher, ...)                   \
  case Q4_0: return launcher<Q4_0>(__VA_ARGS__);     \
  case Q4_1: return launcher<Q4_1>(__VA_ARGS__);     \
  case Q5_0: return launcher<Q5_0>(__VA_ARGS__);     \
  case Q5_1: return launcher<Q5_1>(__VA_ARGS__);     \
  case Q8_0: return launcher<Q8_0>(__VA_ARGS__);     \
  case Q2_K: return launcher<Q2_K>(__VA_ARGS__);     \
  case Q3_K: return launcher<Q3_K>(__VA_ARGS__);     \
  case Q4_K: return launcher<Q4_K>(__VA_ARGS__);     \
  case Q5_K: return launcher<Q5_K>(__VA_ARGS__);     \
  case Q6_K: return launcher<Q6_K>(__VA_ARGS__);     \
  case IQ4_NL: return launcher<IQ4_NL>(__VA_ARGS__); \
  case IQ4_XS: return launcher<IQ4_XS>(__VA_ARGS__);
#define CODER_UNKNOWN default: return refuse("weights of a type that no kernel knows");

}  // namespace CODER_NAMESPACE
