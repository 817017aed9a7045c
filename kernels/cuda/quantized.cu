// Activations in eight bits, where no kernel that made them did it: rows that came from elsewhere, or from a kernel of many
// rows, where a launch more is no matter.
#include "rounding.cuh"

namespace CODER_NAMESPACE {

constexpr int THREADS = 256;
constexpr int EACH = 4;  // columns of a thread

// q, scale and sum of x; x.cols a multiple of 32. Reads 4 and writes 1.4 bytes a column.
__global__ void quantize_kernel(Rows x, size_t threads) {
  size_t thread = size_t(blockIdx.x) * THREADS + threadIdx.x;
  bool mine = thread < threads;  // the last warp's other lanes work on the last columns, for shuffles
  size_t at = mine ? thread : threads - 1;
  float4 four = reinterpret_cast<const float4 *>(x.x)[at];
  const float v[EACH] = {four.x, four.y, four.z, four.w};
  round_columns(x, at * EACH, v, mine);
}

int quantize(Device *device, const Rows *x) {
  if (x->q == nullptr || x->cols % ROUNDED != 0) return refuse("columns to quantize that are no multiple of 32");
  size_t threads = size_t(x->rows) * x->cols / EACH;
  if (threads == 0) return OK;
  unsigned blocks = unsigned((threads + THREADS - 1) / THREADS);
  return launch(device, "quantize", quantize_kernel, dim3(blocks), THREADS, 0, *x, threads);
}

}  // namespace CODER_NAMESPACE
