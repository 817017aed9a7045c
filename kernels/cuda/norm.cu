// The RMS norm by itself.
#include "norm.cuh"

namespace CODER_NAMESPACE {
namespace {

constexpr int THREADS = NORM_THREADS;

// What a row's columns allow.
enum Columns { ANY, QUADS, RUNS };  // nothing; 16 bytes at a time; and whole runs, which are rounded too

// y[r] = x[r] / sqrt(mean(x[r]²) + eps) · w, and the rounding of y where it has one. x, y [rows, cols], w [cols]. A block a
// row. Reads x from memory once (and again from cache) and writes y and its rounding: 9.4 bytes an element.
template <int COLUMNS>
__global__ void __launch_bounds__(THREADS) rms_norm_kernel(Rows y, const float *x, const float *w, float eps) {
  follow();
  int cols = y.cols;
  size_t row = blockIdx.x;
  x += row * cols;
  float scale = norm_scale(sum_of_squares<COLUMNS != ANY>(shared<Sums>(), x, cols, THREADS), cols, eps);
  if (COLUMNS != ANY) {
    int first = 4 * (threadIdx.x / WARP * WARP);
#pragma unroll 2
    for (int begin = first; begin < cols; begin += 4 * THREADS) norm_columns<COLUMNS == RUNS>(y, row, x, w, scale, begin);
  } else {
    for (int c = threadIdx.x; c < cols; c += THREADS) y.x[row * cols + c] = x[c] * scale * w[c];
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
  if (rounds(*y)) return launch_norm<RUNS>(device, y, x, w, eps);
  return (x->cols % 4 == 0 ? launch_norm<QUADS> : launch_norm<ANY>)(device, y, x, w, eps);
}

}  // namespace CODER_NAMESPACE
