// Rows of the embedding table. The table may lie in the host's memory, which the card reads in place.
#include "codes.cuh"

namespace CODER_NAMESPACE {

constexpr int THREADS = 128;

// x[r] = table[tokens[r]] for tokens of this part, decoded to the very numbers of blocks/*.rs. x [rows, cols], part
// [part.rows, cols], tokens below the table's outputs. A thread a run of 32 columns: neighbours read neighbouring bytes.
// Reads a row of weights for each token, once, and writes 4 bytes a column.
template <int TYPE>
__global__ void embed_kernel(float *x, Part part, const int32_t *tokens, int rows, int cols) {
  int runs = cols / RUN;
  size_t at = size_t(blockIdx.x) * THREADS + threadIdx.x;
  if (at >= size_t(rows) * runs) return;
  int r = at / runs, b = at % runs, token = tokens[r] - part.first;
  if (token < 0 || token >= part.rows) return;
  using C = Codes<TYPE>;
  size_t run = size_t(token) * runs + b;
  typename C::Raw raw;
  typename C::Of w;
  read_run<TYPE>(part, run, raw);
  unpack_run<TYPE>(raw, run, w);
  float4 *to = reinterpret_cast<float4 *>(x + at * RUN);
#pragma unroll
  for (int i = 0; i < RUN / 4; i++) {
    float v[4];
#pragma unroll
    for (int k = 0; k < 4; k++) {
      int s = i * 4 / (RUN / C::SCALES);
      v[k] = w.scale[s] * float(int8_t(w.code[i] >> 8 * k));
      if (C::MINIMA) v[k] -= w.minimum[s];
    }
    to[i] = make_float4(v[0], v[1], v[2], v[3]);
  }
}

// The same for the float types, a thread a number.
template <int TYPE>
__global__ void embed_floats_kernel(float *x, Part part, const int32_t *tokens, int rows, int cols) {
  size_t at = size_t(blockIdx.x) * THREADS + threadIdx.x;
  if (at >= size_t(rows) * cols) return;
  int token = tokens[at / cols] - part.first;
  if (token >= 0 && token < part.rows) x[at] = number<TYPE>(part.plane[0], size_t(token) * cols + at % cols);
}

template <int TYPE>
static int launch_type(Device *device, const Rows &x, const Part &part, const int32_t *tokens) {
  size_t threads = size_t(x.rows) * (is_float(TYPE) ? x.cols : x.cols / RUN);
  unsigned blocks = unsigned((threads + THREADS - 1) / THREADS);
  if constexpr (is_float(TYPE)) {
    return launch(device, "embed", embed_floats_kernel<TYPE>, dim3(blocks), THREADS, 0, x.x, part, tokens, x.rows, x.cols);
  } else {
    if (x.cols % RUN != 0) return refuse("a quantized table whose columns are no multiple of 32");
    return launch(device, "embed", embed_kernel<TYPE>, dim3(blocks), THREADS, 0, x.x, part, tokens, x.rows, x.cols);
  }
}

static int launch_part(Device *device, const Rows &x, const Part &part, const int32_t *tokens) {
  CODER_BY_TYPE(part.type, launch_type, device, x, part, tokens)
}

int embed(Device *device, const Rows *x, const Matrix *table, const Batch *batch) {
  if (x->rows == 0) return OK;
  for (int i = 0; i < table->parts; i++) {
    int failed = launch_part(device, *x, table->part[i], batch->tokens);
    if (failed != OK) return failed;
  }
  return OK;
}

}  // namespace CODER_NAMESPACE
