// Activations in eight bits, where no kernel that made them did it: rows that came from elsewhere, or from a kernel of many
// rows, where a launch more is no matter.
#include "rounding.cuh"

namespace CODER_NAMESPACE {

constexpr int THREADS = 256;
constexpr int EACH = 4 * THREADS;  // columns of a block

// q, scale and sum of x, of rows of whole runs. Grid (row, ⌈cols / EACH⌉). Reads 4 and writes 1.4 bytes a column.
__global__ void quantize_kernel(Rows x) {
  follow();
  int first = blockIdx.y * EACH;
  round_written(x, blockIdx.x, first, min(first + EACH, x.cols), threadIdx.x / WARP, THREADS / WARP);
}

int quantize(Device *device, const Rows *x) {
  if (!rounds(*x)) return refuse("columns to quantize that are no multiple of 32");
  if (x->rows == 0) return OK;
  return launch(device, "quantize", quantize_kernel, dim3(x->rows, ceil_div(x->cols, EACH)), THREADS, 0, *x);
}

}  // namespace CODER_NAMESPACE
