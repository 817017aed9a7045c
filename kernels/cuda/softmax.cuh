// The arithmetic of one row's attention, which both ways of it share, so that they give the same bits.
//
// A context is cut into pieces of BLOCK positions, a block of the cache. A warp works on a piece for QUERIES queries:
//
//   s = Σ (q / √dim) · k, columns as below;  m = max s over the piece;  w = e^(s - m);  l = Σ w, a tree
//   a[c] = Σ w · v[c]
//
// on tensor cores, whose sixteen rows are positions for the scores, and columns of the values for the sums. Numbers are halves
// (cache.cuh): two of each weight, and of each query as many as of a key, which is rounded as much.
//
// Pieces are merged in ascending order into chunks of ATTENTION_CHUNK positions, beginning with the first, each scaled to the
// larger maximum (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018), and so are STRETCH chunks into a
// stretch, and a context's stretches. What a row does not see is not added, not even as 0.
//
// Lane 4 · g + q has of queries 2 · q + {0, 1} the scores with positions 8 · j + g of a piece, and sums of the columns from
// g · Columns::EACH on: what tensor cores call rows or columns are whichever a lane can read side by side.
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

// Heads that are WHOLE have 64 columns or 128.
constexpr __host__ __device__ int columns_of(bool whole) { return whole ? WIDTH : MAX_HEAD; }
constexpr __host__ __device__ int steps_of(bool whole) { return columns_of(whole) / STEP; }

// Blocks that a multiprocessor should hold: with more of them registers would spill.
constexpr __host__ __device__ int resident(int type, bool whole, bool tiles) {
  return 1 + tiles + (whole && type != CACHE_F32);
}

// The query heads of one key and value head that a block takes: all of its group, or equal parts of a larger one.
struct Group {
  int size;   // heads of the whole group
  int parts;
  int heads;  // of each part; the last may have fewer
};

// The queries of a warp, in as many halves as keys have: of query g, lane 4 · g + q has eight columns for each STEP.
template <int TYPE, int STEPS>
struct Queried {
  uint4 part[parts_of(TYPE)][STEPS][WARP];
};

// Columns of a lane's query, which begins at `from`, or is none, divided by √dim.
template <int TYPE, int STEPS>
__device__ inline void put_query(Queried<TYPE, STEPS> &to, const float *from, int step, int lane, int dim) {
  float x[8], scale = 1.0f / sqrtf(float(dim));
#pragma unroll
  for (int i = 0; i < 8; i++) {
    int c = step * STEP + lane % 4 * 8 + i;
    x[i] = from && c < dim ? from[c] * scale : 0.0f;
  }
  uint32_t part[2][4];
#pragma unroll
  for (int i = 0; i < 4; i++) split(x[2 * i], x[2 * i + 1], part[0][i], part[1][i]);
#pragma unroll
  for (int p = 0; p < parts_of(TYPE); p++) to.part[p][step][lane] = make_uint4(part[p][0], part[p][1], part[p][2], part[p][3]);
}

// Number i of a lane's sums, of both parts of either factor.
template <int A, int B>
__device__ inline float whole(const float (&d)[A][B][4], int i) {
  float of[A];
#pragma unroll
  for (int p = 0; p < A; p++) of[p] = B == 1 ? d[p][0][i] : joined(d[p][0][i], d[p][B - 1][i]);
  return A == 1 ? of[0] : joined(of[0], of[A - 1]);
}

// Position 8 · j + `of` of a piece, or in place of positions from `here` on the last before them: no position's weight depends on
// another's. Written so that no register holds each of them.
__device__ inline unsigned position(int j, int of, int here) { return unsigned(min(of, here - 1 - 8 * j) + 8 * j); }

// The scales of a piece from place `first` on, for the lane's positions and four runs from column `c` on, where there are any.
template <int TYPE, bool WHOLE>
__device__ inline void piece_scales(uint2 (&scales)[TILES], const Side &side, size_t first, int here, int c) {
  if constexpr (TYPE == CACHE_Q8_0) {
    int runs = ceil_div(side.dim, CACHE_RUN), run = c / CACHE_RUN;
    const uint16_t *from = side.scales + first * runs + run;
#pragma unroll
    for (int j = 0; j < TILES; j++) {
      scales[j] = scales_of<WHOLE>(from + position(j, threadIdx.x % WARP / 4, here) * unsigned(side.kv_heads * runs), runs - run);
    }
  }
}

// A lane's columns of a key, from step `step` on as far as they are read at once: of two steps if they are bytes of a whole head.
// `from` has those of the first step.
template <int TYPE, bool WHOLE>
struct Steps {
  static constexpr int COUNT = WHOLE && TYPE == CACHE_Q8_0 ? 2 : 1;
  Read<TYPE> of[COUNT];

  __device__ inline void take(const uint8_t *from, int step, int left) {
    if constexpr (COUNT == 2) {
      uint4 v = *reinterpret_cast<const uint4 *>(from + step * EACH_OF_KEY);
      of[0] = {{v.x, v.y}}, of[1] = {{v.z, v.w}};
    } else {
      of[0] = read<TYPE, WHOLE>(from + step * STEP * bytes_of(TYPE), left - step * STEP);
    }
  }
};
static_assert(STEP == CACHE_RUN, "a step is a run");

// The scores of a piece from place `first` on, of the positions below `here`.
template <int TYPE, bool WHOLE, int STEPS>
__device__ inline void score(float (&s)[TILES][2], const Queried<TYPE, STEPS> &queries, const Side &keys, size_t first, int here) {
  constexpr int PARTS = parts_of(TYPE);
  using Keys = Steps<TYPE, WHOLE>;
  int lane = threadIdx.x % WARP, c = lane % 4 * 8, at = WHOLE && TYPE == CACHE_Q8_0 ? in_lanes(c, keys.dim, EACH_OF_KEY) : c;
  const uint8_t *from[TILES];
#pragma unroll
  for (int j = 0; j < TILES; j++) from[j] = entry<TYPE>(keys, first, at) + position(j, lane / 4, here) * stride<TYPE>(keys);
  float d[TILES / 2][PARTS][PARTS][4] = {}, sum[TILES][2] = {};
  Keys key[TILES];
  uint2 scales[TILES];
#pragma unroll(WHOLE ? STEPS : 1)
  for (int step = 0; step < STEPS; step++) {
    if ((!WHOLE || step % 2 == 0) && step * STEP >= keys.dim) break;  // whole heads have an even number of steps
#pragma unroll
    for (int j = 0; j < TILES; j++) {
      if (step % Keys::COUNT == 0) key[j].take(from[j], step, keys.dim - c);
    }
    if (step % 4 == 0) piece_scales<TYPE, WHOLE>(scales, keys, first, here, step * STEP);
    uint4 query[PARTS];
#pragma unroll
    for (int p = 0; p < PARTS; p++) query[p] = queries.part[p][step][lane];
#pragma unroll
    for (int j = 0; j < TILES / 2; j++) {
      uint32_t word[2][PARTS][4];
#pragma unroll
      for (int h = 0; h < 2; h++) halves<TYPE>(word[h], key[2 * j + h].of[step % Keys::COUNT]);
#pragma unroll
      for (int p = 0; p < PARTS; p++) {
        const uint32_t(&a)[4] = word[0][p], (&b)[4] = word[1][p];
#pragma unroll
        for (int q = 0; q < PARTS; q++) {
          float(&to)[4] = d[j][p][q];
          if (TYPE == CACHE_Q8_0) {
            mma_halves_16x8x16(to, {a[0], b[0], a[1], b[1]}, {query[q].x, query[q].y}, {0.0f, 0.0f, 0.0f, 0.0f});
          } else {
            mma_halves_16x8x16(to, {a[0], b[0], a[1], b[1]}, {query[q].x, query[q].y}, to);
          }
          mma_halves_16x8x16(to, {a[2], b[2], a[3], b[3]}, {query[q].z, query[q].w}, to);
        }
      }
#pragma unroll
      for (int i = 0; i < 4; i++) {
        float &to = sum[2 * j + i / 2][i % 2];
        if (TYPE == CACHE_Q8_0) to = fmaf(whole(d[j], i), scale_of(scales[2 * j + i / 2], step % 4), to);
      }
    }
  }
#pragma unroll
  for (int j = 0; j < TILES; j++) {
#pragma unroll
    for (int i = 0; i < 2; i++) s[j][i] = TYPE == CACHE_Q8_0 ? sum[j][i] : whole(d[j / 2], j % 2 * 2 + i);
  }
}

// Halves of a weight.
constexpr int WEIGHT_PARTS = 2;

// Turns scores into weights, 0 from the position of the piece on that a query does not see, and gives their maximum and their sum.
template <int TYPE>
__device__ inline void weigh(float (&s)[TILES][2], const int (&seen)[2], float (&peak)[2], float (&sum)[2]) {
  int at = threadIdx.x % WARP / 4;
#pragma unroll
  for (int i = 0; i < 2; i++) {
    // A score that is no number is passed over here, and shows in its weight; from minus infinity the least float can be taken.
    peak[i] = -3.40282347e38f;
#pragma unroll
    for (int j = 0; j < TILES; j++) {
      s[j][i] = 8 * j + at < seen[i] ? s[j][i] : as_float(0xff800000u);
      peak[i] = fmaxf(peak[i], s[j][i]);
    }
#pragma unroll
    for (int m = 4; m < WARP; m *= 2) peak[i] = fmaxf(peak[i], shuffle_xor(peak[i], m));
  }
#pragma unroll
  for (int j = 0; j < TILES; j++) {
#pragma unroll
    for (int i = 0; i < 2; i++) s[j][i] = exponential(s[j][i] - peak[i]);
  }
#pragma unroll
  for (int i = 0; i < 2; i++) {
    sum[i] = (s[0][i] + s[1][i]) + (s[2][i] + s[3][i]);
#pragma unroll
    for (int m = 4; m < WARP; m *= 2) sum[i] += shuffle_xor(sum[i], m);
  }
}
static_assert(TILES == 4, "a sum is a tree");

// Columns of values that are worked on together, and how many of them are a lane's.
template <int TYPE>
struct Columns {
  static constexpr int TOGETHER = TYPE == CACHE_Q8_0 ? CACHE_RUN : 64, EACH = TOGETHER / 8;
};

// Weights as tensor cores take them, of query g: two tiles of positions each.
template <int TYPE>
struct Weights {
  uint32_t part[WEIGHT_PARTS][TILES / 2][2];

  // Each times the scale of its position for run `run` of four, if the values have one.
  __device__ inline void take(const float (&w)[TILES][2], const uint2 (&scales)[TILES], int run, const int (&seen)[2]) {
#pragma unroll
    for (int j = 0; j < TILES; j++) {
      float v[2] = {w[j][0], w[j][1]};
#pragma unroll
      for (int i = 0; i < 2; i++) {
        // The scale of a position that is not seen may be no number.
        if (TYPE == CACHE_Q8_0) v[i] = 8 * j + int(threadIdx.x) % WARP / 4 < seen[i] ? v[i] * scale_of(scales[j], run) : 0.0f;
      }
      uint32_t of[2];
      split(v[0], v[1], of[0], of[1]);
#pragma unroll
      for (int p = 0; p < WEIGHT_PARTS; p++) part[p][j / 2][j % 2] = transpose_halves(of[p]);
    }
  }
};

// Where a lane reads values: column `c` + its first of TOGETHER, of position i < 2 of tile j.
template <int TYPE>
__device__ inline const uint8_t *value(const Side &values, size_t first, int here, int c, int j, int i) {
  int lane = threadIdx.x % WARP;
  return entry<TYPE>(values, first, c + lane / 4 * Columns<TYPE>::EACH) + position(j, lane % 4 * 2 + i, here) * stride<TYPE>(values);
}

// The bytes of a piece's values, of all runs of a whole head or of one of another; of other types' values there is room for few.
template <bool WHOLE>
struct Bytes {
  uint32_t run[WHOLE ? WIDTH / CACHE_RUN : 1][TILES][2];

  // From column `c` on, which is 0 of a whole head.
  __device__ inline void take(const Side &values, size_t first, int here, int c) {
    if (WHOLE && values.dim == WIDTH) {
      read<4>(values, first, here, c);
    } else {
      read<WHOLE ? 2 : 1>(values, first, here, c);
    }
  }

 private:
  template <int RUNS>
  __device__ inline void read(const Side &values, size_t first, int here, int c) {
    int at = c + int(threadIdx.x) % WARP / 4 * EACH_OF_VALUE;
    const uint8_t *from = entry<CACHE_Q8_0>(values, first, WHOLE ? in_lanes(at, RUNS * CACHE_RUN, EACH_OF_VALUE) : at);
#pragma unroll
    for (int j = 0; j < TILES; j++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const uint8_t *own = from + position(j, threadIdx.x % 4 * 2 + i, here) * stride<CACHE_Q8_0>(values);
        if constexpr (RUNS == 1) {
          run[0][j][i] = load_bytes(own, values.dim - at);
        } else if constexpr (RUNS == 2) {
          uint2 v = *reinterpret_cast<const uint2 *>(own);
          run[0][j][i] = v.x, run[1][j][i] = v.y;
        } else {
          uint4 v = *reinterpret_cast<const uint4 *>(own);
          run[0][j][i] = v.x, run[1][j][i] = v.y, run[2][j][i] = v.z, run[3][j][i] = v.w;
        }
      }
    }
  }
};

// The weighted values of a piece, of TOGETHER columns from `c` on: of the lane's columns t for its queries i. `bytes` are the
// values if they are.
template <int TYPE, bool WHOLE>
__device__ inline void mix(float (&sum)[Columns<TYPE>::EACH][2], const Weights<TYPE> &w, const Side &values, size_t first, int here,
                           int c, const uint32_t (&bytes)[TILES][2]) {
  constexpr int EACH = Columns<TYPE>::EACH, PARTS = parts_of(TYPE);
  int left = values.dim - c - int(threadIdx.x) % WARP / 4 * EACH;
  float d[EACH / 2][PARTS][WEIGHT_PARTS][4] = {};  // two of the lane's columns
#pragma unroll
  for (int k = 0; k < TILES / 2; k++) {
    uint32_t word[4][PARTS][4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if constexpr (TYPE == CACHE_Q8_0) {
        word[i][0][0] = bytes[2 * k + i / 2][i % 2] ^ 0x80808080u;
      } else {
        halves<TYPE>(word[i], read<TYPE, WHOLE>(value<TYPE>(values, first, here, c, 2 * k + i / 2, i % 2), left));
      }
    }
#pragma unroll
    for (int t = 0; t < EACH; t += 2) {
#pragma unroll
      for (int p = 0; p < PARTS; p++) {
        uint32_t a[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
          int h = i / 2 * 2, column = t + i % 2;
          if constexpr (TYPE == CACHE_Q8_0) {
            a[i] = integers(permute(word[h][0][0], word[h + 1][0][0], column | (4 + column) << 4), false);
          } else {
            a[i] = permute(word[h][p][t / 2], word[h + 1][p][t / 2], column % 2 ? 0x7632 : 0x5410);
          }
        }
#pragma unroll
        for (int n = 0; n < WEIGHT_PARTS; n++) mma_halves_16x8x16(d[t / 2][p][n], a, w.part[n][k], d[t / 2][p][n]);
      }
    }
  }
#pragma unroll
  for (int t = 0; t < EACH; t++) {
#pragma unroll
    for (int i = 0; i < 2; i++) sum[t][i] = whole(d[t / 2], t % 2 * 2 + i);
  }
}

// What the pieces, chunks or stretches before, with maximum `before`, and the next, with maximum `peak`, are multiplied by to be
// added.
struct Merge {
  float peak, old, add;
};
__device__ inline Merge merge(float before, float peak) {
  float less = exponential(fminf(before, peak) - fmaxf(before, peak));  // of the larger it is 1
  return before < peak ? Merge{peak, less, 1.0f} : Merge{before, 1.0f, less};
}
__device__ inline float merged(const Merge &m, float before, float next) { return fmaf(next, m.add, before * m.old); }

}  // namespace CODER_NAMESPACE
