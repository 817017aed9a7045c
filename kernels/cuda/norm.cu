// The RMS norm (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019).
#include "rounding.cuh"

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

// What a row's columns allow.
enum Columns { ANY, QUADS, RUNS };  // nothing; 16 bytes at a time; and whole runs, which are rounded too

// y[r] = x[r] / sqrt(mean(x[r]²) + eps) · w, and the rounding of y where it has one. x, y [rows, cols], w [cols]. A block a
// row; thread t sums the columns 4·t … 4·t + 3 of each 2048, so that the order depends on `cols` alone. Reads x from
// memory once (and again from cache) and writes y and its rounding: 9.4 bytes an element.
template <int COLUMNS>
__global__ void __launch_bounds__(THREADS) rms_norm_kernel(Rows y, const float *x, const float *w, float eps) {
  Sums &sums = shared<Sums>();
  int cols = y.cols;
  size_t row = size_t(blockIdx.x) * cols;
  x += row;
  float *to = y.x + row;
  float squares = 0.0f;
  if (COLUMNS != ANY) {
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
  if (COLUMNS != ANY) {
    // All lanes of a warp go on together: those behind the last column repeat it.
    int first = 4 * (threadIdx.x / WARP * WARP);
#pragma unroll 2
    for (int begin = first; begin < cols; begin += 4 * THREADS) {
      int here = begin + 4 * int(threadIdx.x % WARP), c = min(here, cols - 4);
      float4 v = *reinterpret_cast<const float4 *>(x + c), u = *reinterpret_cast<const float4 *>(w + c);
      const float n[4] = {v.x * scale * u.x, v.y * scale * u.y, v.z * scale * u.z, v.w * scale * u.w};
      if (here < cols) *reinterpret_cast<float4 *>(to + c) = make_float4(n[0], n[1], n[2], n[3]);
      if (COLUMNS == RUNS) round_columns(y, row + c, n, here < cols);
    }
  } else {
    for (int c = threadIdx.x; c < cols; c += THREADS) to[c] = x[c] * scale * w[c];
  }
}

template <int COLUMNS>
int launch_norm(Device *device, const Rows *y, const Rows *x, const float *w, float eps) {
  return launch(device, "rms_norm", rms_norm_kernel<COLUMNS>, dim3(x->rows), THREADS, sizeof(Sums), *y, x->x, w, eps);
}

}  // namespace

int rms_norm(Device *device, const Rows *y, const Rows *x, const float *w, float eps) {
  if (x->rows == 0) return OK;
  if (y->cols != x->cols) return refuse("rms_norm: rows of different length");
  if (y->q != nullptr && x->cols % ROUNDED == 0) return launch_norm<RUNS>(device, y, x, w, eps);
  return (x->cols % 4 == 0 ? launch_norm<QUADS> : launch_norm<ANY>)(device, y, x, w, eps);
}

}  // namespace CODER_NAMESPACE
