// Rows of the embedding table. The table may lie in the host's memory, which the card reads in place.
#include "codes.cuh"

namespace CODER_NAMESPACE {

constexpr int THREADS = 128;

// x[r] = table[tokens[r]] for tokens of this part, decoded to the very numbers of blocks/*.rs. x [rows, cols], part
// [part.rows, cols], tokens below the table's outputs. A thread a lane's share of a unit: neighbours read neighbouring bytes.
// Reads a row of weights for each token, once, and writes 4 bytes a column.
template <int TYPE>
__global__ void embed_kernel(float *x, Part part, const int32_t *tokens, int rows, int cols) {
  follow();
  using C = Codes<TYPE>;
  int shares = 4 * ceil_div(cols, UNIT);
  size_t at = size_t(blockIdx.x) * THREADS + threadIdx.x;
  if (at >= size_t(rows) * shares) return;
  int r = at / shares, unit = at % shares / 4, t = at % 4, token = tokens[r] - part.first;
  if (token < 0 || token >= part.rows) return;
  typename C::Raw raw;
  typename C::Of w;
  C::read(part.plane, uint32_t(token) * (shares / 4) + unit, t, raw);
  C::unpack(raw, unit, w);
  float *to = x + size_t(r) * cols;
#pragma unroll
  for (int i = 0; i < 2 * UNIT_RUNS; i++) {
    int c = unit * UNIT + i / 2 * RUN + i % 2 * (RUN / 2) + 4 * t;
    if (c >= cols) break;
    float scale, minimum = 0.0f, v[4];
    if constexpr (C::INTEGER) {
      int s = C::SCALES == 1 ? i / 2 : i;
      scale = w.d * float(signed_byte(w.scale[s / 4], s % 4));
      if (C::MINIMA) minimum = w.m * float(signed_byte(w.minimum[s / 4], s % 4));
    } else {
      scale = low_half(w.halves[i / 2]);
      if (C::MINIMA) minimum = -high_half(w.halves[i / 2]);
    }
#pragma unroll
    for (int k = 0; k < 4; k++) {
      v[k] = scale * float(signed_byte(uint32_t(w.code[i]), k));
      if (C::MINIMA) v[k] -= minimum;
    }
    *reinterpret_cast<float4 *>(to + c) = make_float4(v[0], v[1], v[2], v[3]);
  }
}

// The same for the float types, a thread a number.
template <int TYPE>
__global__ void embed_floats_kernel(float *x, Part part, const int32_t *tokens, int rows, int cols) {
  follow();
  size_t at = size_t(blockIdx.x) * THREADS + threadIdx.x;
  if (at >= size_t(rows) * cols) return;
  int token = tokens[at / cols] - part.first;
  if (token >= 0 && token < part.rows) x[at] = number<TYPE>(part.plane[0], size_t(token) * cols + at % cols);
}

template <int TYPE>
static int launch_type(Device *device, const Rows &x, const Part &part, const int32_t *tokens) {
  size_t threads = size_t(x.rows) * (is_float(TYPE) ? x.cols : 4 * ceil_div(x.cols, UNIT));
  unsigned blocks = unsigned((threads + THREADS - 1) / THREADS);
  if constexpr (is_float(TYPE)) {
    return launch(device, "embed", embed_floats_kernel<TYPE>, dim3(blocks), THREADS, 0, x.x, part, tokens, x.rows, x.cols);
  } else {
    if (x.cols % RUN != 0) return refuse("a quantized table whose columns are no multiple of 32");
    return launch(device, "embed", embed_kernel<TYPE>, dim3(blocks), THREADS, 0, x.x, part, tokens, x.rows, x.cols);
  }
}

static int launch_part(Device *device, const Rows &x, const Part &part, const int32_t *tokens) {
  switch (part.type) {
    CODER_FLOATS(launch_type, device, x, part, tokens)
    CODER_CODES(launch_type, device, x, part, tokens)
    CODER_UNKNOWN
  }
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
