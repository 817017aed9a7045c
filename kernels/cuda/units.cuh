// The arithmetic of products of quantized weights, the same in every kernel: a warp's product of 16 outputs with 8 entries over
// a unit, on tensor cores.
//
// Sums of codes are integers, and exact. Where scales are integers too, all of a unit is: Σ scale · (codes · codes) in 32
// bits, and Σ minimum · (sum of codes), of halves that hold both exactly, below 2²⁴. Then a unit takes two or three roundings.
// Where scales are floats, each run does.
#pragma once

#include "codes.cuh"

namespace CODER_NAMESPACE {

constexpr int TILE_OUTPUTS = 16, TILE_ENTRIES = 8;

// Added to a sum below 2²², these bits are a float from 2²³ to 2²⁴ whose last places are the sum: subtracting
// SUM_ROUND gives it as a float. Sums of a run begin there, since converting integers is slow on most cards.
constexpr int SUM_BEGIN = 0x4B400000;
constexpr float SUM_ROUND = 12582912.0f;

__device__ inline uint32_t byte_as_half(uint32_t word, int i) { return float_to_half(float(int(word >> 8 * i & 255))); }

// A warp's fragment of a unit of 16 outputs: `side` 0 is output lane / 4, 1 the eighth after it, t is lane % 4.
template <int TYPE, bool INTEGER = Codes<TYPE>::INTEGER>
struct Outputs {
  static constexpr int SCALES = Codes<TYPE>::SCALES;
  int code[UNIT_RUNS][4];  // of a run: word t of side 0, of side 1, and word t + 4 of both
  uint32_t scale[2][SCALES];
  float d[2], m[2];
  uint32_t minima[2];  // of the first and the last 16 of run t, as halves

  // Without the codes.
  __device__ inline void set(int side, const typename Codes<TYPE>::Of &w, int t) {
#pragma unroll
    for (int s = 0; s < SCALES; s++) scale[side][s] = w.scale[s];
    d[side] = w.d;
    if (!Codes<TYPE>::MINIMA) return;
    m[side] = w.m;
    if (SCALES == 1) {
      minima[side] = byte_as_half(w.minimum[0], t) * 0x10001u;
    } else {
      uint32_t word = t < 2 ? w.minimum[0] : w.minimum[SCALES - 1];
      minima[side] = byte_as_half(word, t % 2 * 2) | byte_as_half(word, t % 2 * 2 + 1) << 16;
    }
  }
};

template <int TYPE>
struct Outputs<TYPE, false> {
  int code[UNIT_RUNS][4];
  uint32_t halves[2][UNIT_RUNS];

  __device__ inline void set(int side, const typename Codes<TYPE>::Of &w, int) {
#pragma unroll
    for (int r = 0; r < UNIT_RUNS; r++) halves[side][r] = w.halves[r];
  }
};

// Makes a side of a unit's fragment of what was read of it.
template <int TYPE>
__device__ inline void unpack(Outputs<TYPE> &to, int side, const typename Codes<TYPE>::Raw &raw, uint32_t unit, int t) {
  typename Codes<TYPE>::Of w;
  Codes<TYPE>::unpack(raw, unit, w);
#pragma unroll
  for (int i = 0; i < 2 * UNIT_RUNS; i++) to.code[i / 2][i % 2 * 2 + side] = w.code[i];
  to.set(side, w, t);
}

// A warp's fragment of a unit of 8 entries: codes are of entry lane / 4, and `sum` of its run t where scales are integers;
// scales, and sums of runs where they are floats, of entries 2t and 2t + 1.
template <int TYPE, bool INTEGER = Codes<TYPE>::INTEGER>
struct Inputs {
  int code[2 * UNIT_RUNS];
  float scale[2];
  uint32_t sum;
};

template <int TYPE>
struct Inputs<TYPE, false> {
  int code[2 * UNIT_RUNS];
  float scale[2][UNIT_RUNS], sum[2][UNIT_RUNS];
};

__device__ inline float both_halves(uint32_t sums) { return low_half(sums) + high_half(sums); }

// Adds the unit to `sum`, of which number 2h + k is of output lane / 4 + 8h and entry 2t + k.
template <int TYPE>
__device__ inline void add_unit(const Outputs<TYPE, true> &w, const Inputs<TYPE, true> &x, float (&sum)[4]) {
  constexpr int SCALES = Codes<TYPE>::SCALES;
  int all[4];
#pragma unroll
  for (int r = 0; r < UNIT_RUNS; r++) {
    int d[SCALES][4];
    if constexpr (SCALES == 1) {
      mma_16x8x32(d[0], w.code[r], {x.code[2 * r], x.code[2 * r + 1]}, 0);
    } else {
#pragma unroll
      for (int k = 0; k < 2; k++) mma_16x8x16(d[k % SCALES], {w.code[r][2 * k], w.code[r][2 * k + 1]}, {x.code[2 * r + k]}, 0);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
      for (int s = 0; s < SCALES; s++) {
        int at = SCALES * r + s, v = d[s][i] * signed_byte(w.scale[i / 2][at / 4], at % 4);
        all[i] = r + s == 0 ? v : all[i] + v;
      }
    }
  }
  float minima[4];
  if (Codes<TYPE>::MINIMA) mma_halves_16x8x8(minima, w.minima, x.sum, 0.0f);
#pragma unroll
  for (int i = 0; i < 4; i++) {
    float v = w.d[i / 2] * float(all[i]);
    if (Codes<TYPE>::MINIMA) v = fmaf(-w.m[i / 2], minima[i], v);
    sum[i] = fmaf(x.scale[i % 2], v, sum[i]);
  }
}

template <int TYPE>
__device__ inline void add_unit(const Outputs<TYPE, false> &w, const Inputs<TYPE, false> &x, float (&sum)[4]) {
#pragma unroll
  for (int r = 0; r < UNIT_RUNS; r++) {
    int d[4];
    mma_16x8x32(d, w.code[r], {x.code[2 * r], x.code[2 * r + 1]}, SUM_BEGIN);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      float v = low_half(w.halves[i / 2][r]) * (as_float(d[i]) - SUM_ROUND);
      if (Codes<TYPE>::MINIMA) v = fmaf(high_half(w.halves[i / 2][r]), x.sum[i % 2][r], v);
      sum[i] = fmaf(x.scale[i % 2][r], v, sum[i]);
    }
  }
}

}  // namespace CODER_NAMESPACE
