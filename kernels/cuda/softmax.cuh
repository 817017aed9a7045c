// The arithmetic of one row's attention, which both of attention.cu's ways share, so that they give the same bits.
//
// A context is cut into chunks of ATTENTION_CHUNK positions, a chunk into pieces of BLOCK, which is a warp. A block of
// threads works on a chunk, each thread on the scores of one position:
//
//   s = Σ q · k, eight columns at a time, ascending;  m = max s over the chunk;  w = e^(s - m)
//   l = Σ w: a piece as warp_sum's tree, pieces ascending
//   a[c] = Σ w · v[c]: a piece from its first position on, pieces ascending
//
// STRETCH chunks are a stretch. Its chunks are merged in ascending order, beginning with the first, each scaled to the larger
// maximum (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018), and so are a context's stretches. What a
// row does not see is not added, not even as 0.
#pragma once

#include "cache.cuh"
#include "exp.cuh"

namespace CODER_NAMESPACE {

constexpr int PIECES = ATTENTION_CHUNK / BLOCK;
constexpr int STRETCH = 4;  // chunks
constexpr int STEP = 16;  // columns of a key that are loaded at a time, at most
static_assert(BLOCK == WARP, "a lane of a warp is a position of a block");

// What a block of threads knows of its queries.
template <int QUERIES>
struct Softmax {
  int seen[QUERIES];            // positions that the query sees, from 0 on
  float peak[PIECES][QUERIES];  // of the chunk
  float sum[PIECES][QUERIES];
};

// Columns of a head rounded up to whole steps.
__host__ __device__ inline int padded(int dim) { return ceil_div(dim, STEP) * STEP; }

// Column c of a query head `from` [dim] divided by √dim; 0 beyond the head's, up to padded(dim).
__device__ inline float scaled(const float *from, int c, int dim) {
  return c < dim ? from[c] * (1.0f / sqrtf(float(dim))) : 0.0f;
}

// s[j] = q[j] · key for the first `queries`, 0 for the others. q [queries, padded(dim)] in shared memory.
template <int TYPE, int QUERIES>
__device__ inline void score(float (&s)[QUERIES], const float *q, int queries, const Side &keys, size_t place) {
  // With many queries there is enough to do while few columns are on their way.
  constexpr int COLUMNS = QUERIES > 8 ? STEP / 2 : STEP;
  int stride = padded(keys.dim);
#pragma unroll(QUERIES == 8 ? 2 : 1)
  for (int c = 0; c < keys.dim; c += COLUMNS) {
    float k[COLUMNS];
    load<TYPE>(k, keys, place, c);
#pragma unroll
    for (int j = 0; j < QUERIES; j++) {
      if (j >= queries) continue;
#pragma unroll
      for (int i = 0; i < COLUMNS; i += 8) {
        const float *from = q + j * stride + c + i;
        float4 u = *reinterpret_cast<const float4 *>(from), v = *reinterpret_cast<const float4 *>(from + 4);
        float low = fmaf(u.w, k[i + 3], fmaf(u.z, k[i + 2], fmaf(u.y, k[i + 1], u.x * k[i])));
        s[j] += fmaf(v.w, k[i + 7], fmaf(v.z, k[i + 6], fmaf(v.y, k[i + 5], fmaf(v.x, k[i + 4], low))));
      }
    }
  }
}

// Turns the scores of this thread's position into weights, 0 where the query does not see it. The warp is a piece of
// `softmax`'s chunk. Leaves maxima in softmax.peak, and sums in softmax.sum after the next barrier. All threads take part.
template <int QUERIES>
__device__ inline void weigh(float (&s)[QUERIES], Softmax<QUERIES> &softmax, int queries, int position) {
  int warp = threadIdx.x / WARP % PIECES, lane = threadIdx.x % WARP;
#pragma unroll
  for (int j = 0; j < QUERIES; j++) {
    if (j >= queries) continue;
    // A score that is no number is passed over here, and shows in its weight.
    float peak = warp_max(position < softmax.seen[j] ? s[j] : as_float(0xff800000u));
    if (lane == 0) softmax.peak[warp][j] = peak;
  }
  sync_block();
#pragma unroll
  for (int j = 0; j < QUERIES; j++) {
    if (j >= queries) continue;
    float peak = softmax.peak[0][j];
    for (int w = 1; w < PIECES; w++) peak = fmaxf(peak, softmax.peak[w][j]);
    s[j] = position < softmax.seen[j] ? exponential(s[j] - peak) : 0.0f;
    float sum = warp_sum(s[j]);
    if (lane == 0) softmax.sum[warp][j] = sum;
  }
}

// The chunk's maximum and sum of query j, once `weigh` and a barrier are behind.
template <int QUERIES>
__device__ inline void total(const Softmax<QUERIES> &softmax, int j, float &peak, float &sum) {
  peak = softmax.peak[0][j], sum = softmax.sum[0][j];
  for (int w = 1; w < PIECES; w++) peak = fmaxf(peak, softmax.peak[w][j]), sum += softmax.sum[w][j];
}

// What the chunks before, with maximum `before`, and the next, with maximum `peak`, are multiplied by to be added.
struct Merge {
  float peak, old, add;
};
__device__ inline Merge merge(float before, float peak) {
  float larger = fmaxf(before, peak);
  return {larger, exponential(before - larger), exponential(peak - larger)};
}
__device__ inline float merged(const Merge &m, float before, float next) { return fmaf(next, m.add, before * m.old); }

}  // namespace CODER_NAMESPACE
