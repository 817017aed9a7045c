// The RMS norm (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019): the arithmetic, for its kernel and for the
// tails of products.
#pragma once

#include "rounding.cuh"

namespace CODER_NAMESPACE {

// Threads whose order of adding every block keeps, whatever it has.
constexpr int NORM_THREADS = 512;

// Blocks of a tail that makes norms.
constexpr int NORM_BLOCKS = 16;

struct Sums {
  float warp[NORM_THREADS / WARP];
};

// Σ x² of a row: thread t of NORM_THREADS sums the columns 4·t … 4·t + 3 of each 2048, so that the order depends on `cols`
// alone; then lanes as a tree, then warps in ascending order. All `threads` of the block take part. WIDE: `cols` are whole
// 16 bytes.
template <bool WIDE>
__device__ inline float sum_of_squares(Sums &sums, const float *x, int cols, int threads) {
  for (int t = threadIdx.x; t < NORM_THREADS; t += threads) {
    float squares = 0.0f;
    if (WIDE) {
#pragma unroll 4
      for (int c = 4 * t; c < cols; c += 4 * NORM_THREADS) {
        float4 v = *reinterpret_cast<const float4 *>(x + c);
        squares = fmaf(v.w, v.w, fmaf(v.z, v.z, fmaf(v.y, v.y, fmaf(v.x, v.x, squares))));
      }
    } else {
      for (int first = 4 * t; first < cols; first += 4 * NORM_THREADS) {
        for (int c = first; c < min(first + 4, cols); c++) squares = fmaf(x[c], x[c], squares);
      }
    }
    squares = warp_sum(squares);
    if (t % WARP == 0) sums.warp[t / WARP] = squares;
  }
  sync_block();
  float sum = 0.0f;
  for (int w = 0; w < NORM_THREADS / WARP; w++) sum += sums.warp[w];
  return sum;
}

__device__ inline float norm_scale(float squares, int cols, float eps) { return 1.0f / sqrtf(squares / float(cols) + eps); }

// y of four columns a lane from column `begin` of a row on, and their rounding if ROUNDS. All lanes of a warp go on together:
// those behind the last column repeat it. `row` is y's.
template <bool ROUNDS>
__device__ inline void norm_columns(const Rows &y, size_t row, const float *x, const float *w, float scale, int begin) {
  int here = begin + 4 * int(threadIdx.x % WARP), c = min(here, y.cols - 4);
  float4 v = *reinterpret_cast<const float4 *>(x + c), u = *reinterpret_cast<const float4 *>(w + c);
  const float n[4] = {v.x * scale * u.x, v.y * scale * u.y, v.z * scale * u.z, v.w * scale * u.w};
  if (here < y.cols) *reinterpret_cast<float4 *>(y.x + row * y.cols + c) = make_float4(n[0], n[1], n[2], n[3]);
  if (ROUNDS) round_columns(y, row, c, n, here < y.cols);
}

// The norm of a product's rows x [rows, cols], and its rounding, by the product's tail; cols are whole runs. Several blocks work
// on a row: each adds all of it, and makes some of its columns.
__device__ inline void norm_tail(Sums &sums, const Norm &norm, const float *x, int rows, const Share &share) {
  int cols = norm.y.cols, each = max(share.of / rows, 1), warps = blockDim.x / WARP, warp = threadIdx.x / WARP;
  for (int unit = share.index; unit < rows * each; unit += share.of) {
    size_t row = unit / each;
    const float *from = x + row * cols;
    sync_block();
    float scale = norm_scale(sum_of_squares<true>(sums, from, cols, blockDim.x), cols, norm.eps);
    int begin = 4 * WARP * (unit % each * warps + warp);
#pragma unroll 1
    for (; begin < cols; begin += 4 * WARP * each * warps) norm_columns<true>(norm.y, row, from, norm.w, scale, begin);
  }
}

}  // namespace CODER_NAMESPACE
