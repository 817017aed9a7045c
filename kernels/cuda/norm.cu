// The RMS norm (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019).
#include "common.cuh"

namespace CODER_NAMESPACE {
namespace {

constexpr int THREADS = 512;

struct Sums {
  float warp[THREADS / WARP];
};

// Σ x² over the block's threads: lanes as a tree, then warps in ascending order. All threads take part.
__device__ inline float block_sum(Sums &sums, float v) {
  v = warp_sum(v);
  if (threadIdx.x % WARP == 0) sums.warp[threadIdx.x / WARP] = v;
  sync_block();
  float sum = 0.0f;
  for (int w = 0; w < THREADS / WARP; w++) sum += sums.warp[w];
  return sum;
}

// y[r] = x[r] / sqrt(mean(x[r]²) + eps) · w. x, y [rows, cols], w [cols]. A block a row; thread t sums the columns
// 4·t … 4·t + 3 of each 2048, so that the order depends on `cols` alone. `quads`: cols is a multiple of 4, and rows are
// read 16 bytes at a time. Reads x from memory once (and again from cache) and writes y: 8 bytes an element.
__global__ void __launch_bounds__(THREADS)
rms_norm_kernel(float *y, const float *x, const float *w, int cols, float eps, bool quads) {
  Sums &sums = shared<Sums>();
  x += size_t(blockIdx.x) * cols;
  y += size_t(blockIdx.x) * cols;
  float squares = 0.0f;
  if (quads) {
#pragma unroll 4
    for (int c = 4 * threadIdx.x; c < cols; c += 4 * THREADS) {
      float4 v = *reinterpret_cast<const float4 *>(x + c);
      squares = fmaf(v.w, v.w, fmaf(v.z, v.z, fmaf(v.y, v.y, fmaf(v.x, v.x, squares))));
    }
  } else {
    for (int first = 4 * threadIdx.x; first < cols; first += 4 * THREADS) {
      for (int c = first; c < min(first + 4, cols); c++) squares = fmaf(x[c], x[c], squares);
    }
  }
  float scale = 1.0f / sqrtf(block_sum(sums, squares) / float(cols) + eps);
  if (quads) {
#pragma unroll 4
    for (int c = 4 * threadIdx.x; c < cols; c += 4 * THREADS) {
      float4 v = *reinterpret_cast<const float4 *>(x + c), u = *reinterpret_cast<const float4 *>(w + c);
      float4 n = make_float4(v.x * scale * u.x, v.y * scale * u.y, v.z * scale * u.z, v.w * scale * u.w);
      *reinterpret_cast<float4 *>(y + c) = n;
    }
  } else {
    for (int c = threadIdx.x; c < cols; c += THREADS) y[c] = x[c] * scale * w[c];
  }
}

}  // namespace

int rms_norm(Device *device, const Rows *y, const Rows *x, const float *w, float eps) {
  if (x->rows == 0) return OK;
  if (y->cols != x->cols) return refuse("rms_norm: rows of different length");
  bool quads = x->cols % 4 == 0;
  return launch(device, "rms_norm", rms_norm_kernel, dim3(x->rows), THREADS, sizeof(Sums), y->x, x->x, w, x->cols, eps,
                quads);
}

}  // namespace CODER_NAMESPACE
