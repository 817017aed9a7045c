// The arithmetic of one row's attention, which both of attention.cu's ways share, so that they give the same bits.
//
// A context is cut into pieces of BLOCK positions, a block of the cache. A warp works on a piece for QUERIES queries, on tensor
// cores, whose sixteen rows are the halves of the queries' numbers and what these leave (cache.cuh):
//
//   s = Σ q · k / √dim, columns as below;  m = max s over the piece;  w = e^(s - m);  l = Σ w, a tree
//   a[c] = Σ w · v[c]
//
// Pieces are merged in ascending order into chunks of ATTENTION_CHUNK positions, beginning with the first, each scaled to the
// larger maximum (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018), and so are STRETCH chunks into a
// stretch, and a context's stretches. What a row does not see is not added, not even as 0.
//
// Lane 4 · g + q has the scores of query g with positions 8 · j + 2 · q + {0, 1} of a piece, and what tensor cores call columns
// are whichever a lane can read side by side.
#pragma once

#include "cache.cuh"
#include "exp.cuh"

namespace CODER_NAMESPACE {

constexpr int PIECES = ATTENTION_CHUNK / BLOCK;
constexpr int STRETCH = 4;              // chunks
constexpr int QUERIES = 8;              // of a warp
constexpr int TILES = BLOCK / 8;        // eight positions each
constexpr int STEP = 32;                // columns of a key that are multiplied at a time: eight of each of four lanes
constexpr int WIDTH = 4 * WARP;         // columns of values that a warp has sums of
static_assert(BLOCK == WARP, "a piece's tree has a warp's lanes");

// The queries of a warp: eight columns of each lane's query for each STEP.
template <int STEPS>
struct Queried {
  uint4 high[STEPS][WARP], rest[STEPS][WARP];
};

// Columns of a lane's query, which begins at `from`, or is none.
template <int STEPS>
__device__ inline void put_query(Queried<STEPS> &to, const float *from, int step, int lane, int dim) {
  float x[8];
#pragma unroll
  for (int i = 0; i < 8; i++) {
    int c = step * STEP + lane % 4 * 8 + i;
    x[i] = from && c < dim ? from[c] : 0.0f;
  }
  uint32_t high[4], rest[4];
#pragma unroll
  for (int i = 0; i < 4; i++) split(x[2 * i], x[2 * i + 1], high[i], rest[i]);
  to.high[step][lane] = make_uint4(high[0], high[1], high[2], high[3]);
  to.rest[step][lane] = make_uint4(rest[0], rest[1], rest[2], rest[3]);
}

// What tensor cores' four results of a lane stand for: two numbers, of halves and of what they leave.
__device__ inline float whole(const float (&d)[4], int i) { return fmaf(d[i + 2], 1.0f / REST, d[i]); }
template <int PARTS>
__device__ inline float whole(const float (&d)[PARTS][4], int i) {
  return PARTS == 1 ? whole(d[0], i) : fmaf(whole(d[PARTS - 1], i), 1.0f / REST, whole(d[0], i));
}

// The scales of a piece from place `first` on, for the lane's positions and four runs from column `c` on, where there are any.
// Here and below, in place of positions from `here` on there is the last before them, and no position's weight depends on another.
template <int TYPE, bool WHOLE>
__device__ inline void piece_scales(uint2 (&scales)[TILES][2], const Side &side, size_t first, int here, int c) {
  if constexpr (TYPE == CACHE_Q8_0) {
    int runs = ceil_div(side.dim, CACHE_RUN), run = c / CACHE_RUN;
    const uint16_t *from = side.scales + first * runs + run;
#pragma unroll
    for (int j = 0; j < TILES; j++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        unsigned position = min(8 * j + int(threadIdx.x) % 4 * 2 + i, here - 1);
        scales[j][i] = scales_of<WHOLE>(from + position * unsigned(side.kv_heads * runs), runs - run);
      }
    }
  }
}

// The scores of a piece from place `first` on, of the positions below `here`.
template <int TYPE, bool WHOLE, int STEPS>
__device__ inline void score(float (&s)[TILES][2], const Queried<STEPS> &queries, const Side &keys, size_t first, int here) {
  constexpr int PARTS = parts_of(TYPE), AHEAD = WHOLE && TYPE == CACHE_F16 ? 2 : 1;  // steps that are read together
  int lane = threadIdx.x % WARP, c = lane % 4 * 8;
  const uint8_t *key[TILES];
#pragma unroll
  for (int j = 0; j < TILES; j++) key[j] = entry<TYPE>(keys, first, c) + unsigned(min(8 * j + lane / 4, here - 1)) * stride<TYPE>(keys);
  float d[TILES][PARTS][4] = {}, sum[TILES][2] = {};
  uint2 scales[TILES][2];
#pragma unroll(WHOLE ? STEPS / AHEAD : 1)
  for (int begin = 0; begin < STEPS; begin += AHEAD) {
    if (begin * STEP >= keys.dim) break;
    if (begin % 4 == 0) piece_scales<TYPE, WHOLE>(scales, keys, first, here, begin * STEP);
    Read<TYPE> key_of[AHEAD][TILES];
#pragma unroll
    for (int n = 0; n < AHEAD; n++) {
      int at = (begin + n) * STEP;
#pragma unroll
      for (int j = 0; j < TILES; j++) key_of[n][j] = read<TYPE, WHOLE>(key[j] + at * bytes_of(TYPE), keys.dim - at - c);
    }
#pragma unroll
    for (int n = 0; n < AHEAD; n++) {
      int step = begin + n;
      uint4 high = queries.high[step][lane], rest = queries.rest[step][lane];
#pragma unroll
      for (int j = 0; j < TILES; j++) {
        uint32_t word[PARTS][4];
        halves<TYPE>(word, key_of[n][j]);
#pragma unroll
        for (int p = 0; p < PARTS; p++) {
          const uint32_t(&b)[4] = word[p];
          if (TYPE == CACHE_Q8_0) {
            mma_halves_16x8x16(d[j][p], {high.x, rest.x, high.y, rest.y}, {b[0], b[1]}, {0.0f, 0.0f, 0.0f, 0.0f});
          } else {
            mma_halves_16x8x16(d[j][p], {high.x, rest.x, high.y, rest.y}, {b[0], b[1]}, d[j][p]);
          }
          mma_halves_16x8x16(d[j][p], {high.z, rest.z, high.w, rest.w}, {b[2], b[3]}, d[j][p]);
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
          if (TYPE == CACHE_Q8_0) sum[j][i] = fmaf(whole(d[j], i), scale_of(scales[j][i], step % 4), sum[j][i]);
        }
      }
    }
  }
  float scale = 1.0f / sqrtf(float(keys.dim));
#pragma unroll
  for (int j = 0; j < TILES; j++) {
#pragma unroll
    for (int i = 0; i < 2; i++) s[j][i] = (TYPE == CACHE_Q8_0 ? sum[j][i] : whole(d[j], i)) * scale;
  }
}

// Turns scores into weights, 0 from position `seen` of the piece on, and gives their maximum and their sum.
__device__ inline void weigh(float (&s)[TILES][2], int seen, float &peak, float &sum) {
  int at = threadIdx.x % 4 * 2;
  // A score that is no number is passed over here, and shows in its weight.
  peak = as_float(0xff800000u);
#pragma unroll
  for (int j = 0; j < TILES; j++) {
#pragma unroll
    for (int i = 0; i < 2; i++) peak = fmaxf(peak, 8 * j + at + i < seen ? s[j][i] : as_float(0xff800000u));
  }
  peak = fmaxf(peak, shuffle_xor(peak, 1));
  peak = fmaxf(peak, shuffle_xor(peak, 2));
  float of[TILES];
#pragma unroll
  for (int j = 0; j < TILES; j++) {
#pragma unroll
    for (int i = 0; i < 2; i++) s[j][i] = 8 * j + at + i < seen ? exponential(s[j][i] - peak) : 0.0f;
    of[j] = s[j][0] + s[j][1];
  }
  sum = (of[0] + of[1]) + (of[2] + of[3]);
  sum += shuffle_xor(sum, 1);
  sum += shuffle_xor(sum, 2);
}

// Columns of values that are worked on together, and how many of a lane's sums they are: of tensor cores' tile t < EACH, result i
// < 2 is column 2 · EACH · (lane % 4) + EACH · i + t of them.
template <int TYPE>
struct Columns {
  static constexpr int TOGETHER = TYPE == CACHE_Q8_0 ? CACHE_RUN : 64, EACH = TOGETHER / 8;
};

// Weights as tensor cores take them: two tiles of positions each.
struct Weights {
  uint32_t a[TILES / 2][4];

  // Each times the scale of its position for run `run` of four, if the values have one.
  template <int TYPE>
  __device__ inline void take(const float (&w)[TILES][2], const uint2 (&scales)[TILES][2], int run, int seen) {
#pragma unroll
    for (int j = 0; j < TILES; j++) {
      float v[2] = {w[j][0], w[j][1]};
#pragma unroll
      for (int i = 0; i < 2; i++) {
        // The scale of a position that is not seen may be no number.
        if (TYPE == CACHE_Q8_0) v[i] = 8 * j + int(threadIdx.x) % 4 * 2 + i < seen ? v[i] * scale_of(scales[j][i], run) : 0.0f;
      }
      split(v[0], v[1], a[j / 2][j % 2 * 2], a[j / 2][j % 2 * 2 + 1]);
    }
  }
};

// Where a lane reads values: column `c` + its first of TOGETHER, of position i < 2 of tile j.
template <int TYPE>
__device__ inline const uint8_t *value(const Side &values, size_t first, int here, int c, int j, int i) {
  int lane = threadIdx.x % WARP;
  unsigned position = min(8 * j + lane % 4 * 2 + i, here - 1);
  return entry<TYPE>(values, first, c + lane / 4 * Columns<TYPE>::EACH) + position * stride<TYPE>(values);
}

// The bytes of a piece's values, of a run each, as far as the head has them; of other values there is room for few.
struct Bytes {
  uint32_t of[TILES][2];

  template <bool WHOLE>
  __device__ inline void take(const Side &values, size_t first, int here, int c) {
    int left = values.dim - c - int(threadIdx.x) % WARP / 4 * Columns<CACHE_Q8_0>::EACH;
#pragma unroll
    for (int j = 0; j < TILES; j++) {
#pragma unroll
      for (int i = 0; i < 2; i++) of[j][i] = load_bytes<WHOLE>(value<CACHE_Q8_0>(values, first, here, c, j, i), left) ^ 0x80808080u;
    }
  }
};

// The weighted values of a piece, of TOGETHER columns from `c` on, as tensor cores have them; `bytes` are the values' if they are.
template <int TYPE, bool WHOLE>
__device__ inline void mix(float (&sum)[Columns<TYPE>::EACH][2], const Weights &w, const Side &values, size_t first, int here, int c,
                           const Bytes &bytes) {
  constexpr int EACH = Columns<TYPE>::EACH, PARTS = parts_of(TYPE);
  int left = values.dim - c - int(threadIdx.x) % WARP / 4 * EACH;
  float d[EACH][PARTS][4] = {};
#pragma unroll
  for (int k = 0; k < TILES / 2; k++) {
    uint32_t word[4][PARTS][4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if constexpr (TYPE == CACHE_Q8_0) {
        word[i][0][0] = bytes.of[2 * k + i / 2][i % 2];
      } else {
        halves<TYPE>(word[i], read<TYPE, WHOLE>(value<TYPE>(values, first, here, c, 2 * k + i / 2, i % 2), left));
      }
    }
#pragma unroll
    for (int t = 0; t < EACH; t++) {
#pragma unroll
      for (int p = 0; p < PARTS; p++) {
        uint32_t b[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
          if constexpr (TYPE == CACHE_Q8_0) {
            b[h] = integers(permute(word[2 * h][0][0], word[2 * h + 1][0][0], t | (4 + t) << 4), false);
          } else {
            b[h] = permute(word[2 * h][p][t / 2], word[2 * h + 1][p][t / 2], t % 2 ? 0x7632 : 0x5410);
          }
        }
        mma_halves_16x8x16(d[t][p], w.a[k], {b[0], b[1]}, d[t][p]);
      }
    }
  }
#pragma unroll
  for (int t = 0; t < EACH; t++) {
#pragma unroll
    for (int i = 0; i < 2; i++) sum[t][i] = whole(d[t], i);
  }
}

// What the pieces, chunks or stretches before, with maximum `before`, and the next, with maximum `peak`, are multiplied by to be
// added.
struct Merge {
  float peak, old, add;
};
__device__ inline Merge merge(float before, float peak) {
  float larger = fmaxf(before, peak);
  return {larger, exponential(before - larger), exponential(peak - larger)};
}
__device__ inline float merged(const Merge &m, float before, float next) { return fmaf(next, m.add, before * m.old); }

}  // namespace CODER_NAMESPACE
