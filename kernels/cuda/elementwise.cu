// What goes element by element: sums, biases, gates, gathered rows.
#include "exp.cuh"
#include "rounding.cuh"

namespace CODER_NAMESPACE {

constexpr int THREADS = 256;

// x[r] += y[r], or += y[0] for every r if `one`. x, y [rows, cols]. A thread an element; moves 12 bytes each.
__global__ void add_kernel(float *x, const float *y, size_t n, int cols, bool one) {
  follow();
  size_t i = size_t(blockIdx.x) * THREADS + threadIdx.x;
  if (i < n) x[i] += y[one ? i % cols : i];
}

// y[i] = x[wanted[i]]. A block an output row.
__global__ void select_kernel(float *y, const float *x, const int32_t *wanted, int cols) {
  follow();
  size_t from = size_t(wanted[blockIdx.x]) * cols, to = size_t(blockIdx.x) * cols;
  for (int c = threadIdx.x; c < cols; c += THREADS) y[to + c] = x[from + c];
}

// y = silu(gate) · up, and the rounding of y. gate_up [rows, gate ‖ up],
// y [rows, ffn], ffn whole runs. A thread four columns of a row; moves 13.4 bytes an output.
__global__ void swiglu_kernel(Rows y, const float *gate_up) {
  follow();
  int ffn = y.cols, here = 4 * int(blockIdx.y * THREADS + threadIdx.x);
  // All lanes of a warp go on together: those behind the last column repeat it.
  if (here - 4 * int(threadIdx.x % WARP) >= ffn) return;
  int c = min(here, ffn - 4);
  const float *row = gate_up + size_t(blockIdx.x) * 2 * ffn + c;
  float4 g = *reinterpret_cast<const float4 *>(row), u = *reinterpret_cast<const float4 *>(row + ffn);
  const float v[4] = {gated(g.x, u.x), gated(g.y, u.y), gated(g.z, u.z), gated(g.w, u.w)};
  if (here < ffn) *reinterpret_cast<float4 *>(y.x + size_t(blockIdx.x) * ffn + c) = make_float4(v[0], v[1], v[2], v[3]);
  round_columns(y, blockIdx.x, c, v, here < ffn);
}

// The same for rows of any length, without a rounding. A thread a column.
__global__ void swiglu_any_kernel(float *y, const float *gate_up, int ffn) {
  follow();
  int c = blockIdx.y * THREADS + threadIdx.x;
  if (c >= ffn) return;
  const float *row = gate_up + size_t(blockIdx.x) * 2 * ffn;
  y[size_t(blockIdx.x) * ffn + c] = gated(row[c], row[ffn + c]);
}

static int launch_add(Device *device, const Rows *x, const float *y, bool one) {
  size_t n = size_t(x->rows) * x->cols;
  if (n == 0) return OK;
  unsigned blocks = unsigned((n + THREADS - 1) / THREADS);
  return launch(device, "add", add_kernel, dim3(blocks), THREADS, 0, x->x, y, n, x->cols, one);
}

int add(Device *device, const Rows *x, const Rows *y) { return launch_add(device, x, y->x, false); }

int bias(Device *device, const Rows *x, const float *b) { return launch_add(device, x, b, true); }

int swiglu(Device *device, const Rows *y, const Rows *gate_up) {
  if (gate_up->rows == 0) return OK;
  if (gate_up->cols != 2 * y->cols) return refuse("swiglu: rows are not gate and up");
  if (rounds(*y)) {
    dim3 grid(gate_up->rows, ceil_div(y->cols, 4 * THREADS));
    return launch(device, "swiglu", swiglu_kernel, grid, THREADS, 0, *y, gate_up->x);
  }
  dim3 grid(gate_up->rows, ceil_div(y->cols, THREADS));
  return launch(device, "swiglu", swiglu_any_kernel, grid, THREADS, 0, y->x, gate_up->x, y->cols);
}

int select(Device *device, const Rows *y, const Rows *x, const Batch *batch) {
  if (y->rows == 0) return OK;
  return launch(device, "select", select_kernel, dim3(y->rows), THREADS, 0, y->x, x->x, batch->logits, x->cols);
}

}  // namespace CODER_NAMESPACE
