// Activations in eight bits: what the products of quantized weights read.
#include "common.cuh"

namespace CODER_NAMESPACE {

constexpr int THREADS = 256;
constexpr int RUN = 32;             // columns that share a scale
constexpr int EACH = 4;             // columns of a thread
constexpr int LANES = RUN / EACH;   // threads of a run

// Adding it rounds to nearest, ties to even, and leaves the integer in the low bits.
constexpr float ROUND = 12582912.0f;

// A sum over the eight lanes of a run.
__device__ inline int run_sum(int v) {
#pragma unroll
  for (int m = 1; m < LANES; m *= 2) v += shuffle_xor(v, m);
  return v;
}

// Codes of this thread's columns with `scale`, and the sum of their squared errors in 1024ths: integers, whose sum over
// the run has one value in any order.
__device__ inline int codes_of(const float (&x)[EACH], float scale, int (&codes)[EACH]) {
  float inverse = 1.0f / scale;
  // A scale of zero, infinity or no number, or one so small that it has no inverse: all codes are 0.
  if (!(inverse <= 3.40282347e38f)) inverse = 0.0f;
  int sum = 0;
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    float exact = x[i] * inverse, rounded = exact + ROUND;
    codes[i] = int8_t(as_bits(rounded));
    int error = int(as_bits((exact - (rounded - ROUND)) * 1024.0f + ROUND) & 0x7FF);
    error -= (error & 0x400) << 1;
    sum += error * error;
  }
  return sum;
}

// q, scale and sum of x: every 32 columns share the best of four scales, their largest magnitude over 127, 125, 123
// or 121. The same bits as cpu/quantized.rs. Eight threads a run; x.cols a multiple of 32.
// Reads 4 and writes 1.4 bytes a column.
__global__ void quantize_kernel(Rows x, size_t threads) {
  size_t thread = size_t(blockIdx.x) * THREADS + threadIdx.x;
  bool mine = thread < threads;  // the last warp's other lanes work on the last columns, for shuffles
  size_t at = mine ? thread : threads - 1, run = at / LANES;
  float4 four = reinterpret_cast<const float4 *>(x.x)[at];
  const float v[EACH] = {four.x, four.y, four.z, four.w};
  // Magnitudes compare as their bits do; what is not a number is the largest and stays visible in the scale.
  uint32_t bits = 0;
#pragma unroll
  for (int i = 0; i < EACH; i++) bits = max(bits, as_bits(v[i]) & 0x7FFFFFFF);
#pragma unroll
  for (int m = 1; m < LANES; m *= 2) bits = max(bits, shuffle_xor(bits, m));
  float largest = as_float(bits), best_scale = largest / 127.0f, least = as_float(0x7F800000);
  int best[EACH] = {};
#pragma unroll
  for (int most = 127; most >= 121; most -= 2) {
    int codes[EACH];
    float scale = largest / float(most);
    float error = float(run_sum(codes_of(v, scale, codes))) * scale * scale;
    if (error < least) {
      least = error, best_scale = scale;
#pragma unroll
      for (int i = 0; i < EACH; i++) best[i] = codes[i];
    }
  }
  int sum = 0, packed = 0;
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    sum += best[i];
    packed |= (best[i] & 255) << 8 * i;
  }
  sum += shuffle_xor(sum, 1);
  sum += shuffle_xor(sum, 2);
  if (!mine) return;
  reinterpret_cast<int *>(x.q)[at] = packed;
  if (at % LANES == 0) x.scale[run] = best_scale;
  if (at % (LANES / 2) == 0) x.sum[at / (LANES / 2)] = sum;
}

int quantize(Device *device, const Rows *x) {
  if (x->q == nullptr || x->cols % RUN != 0) return refuse("columns to quantize that are no multiple of 32");
  size_t threads = size_t(x->rows) * x->cols / EACH;
  if (threads == 0) return OK;
  unsigned blocks = unsigned((threads + THREADS - 1) / THREADS);
  return launch(device, "quantize", quantize_kernel, dim3(blocks), THREADS, 0, *x, threads);
}

}  // namespace CODER_NAMESPACE
