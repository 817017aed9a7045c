// Activations in eight bits, what products of quantized weights read: the arithmetic, for every kernel that makes rows.
//
// Weights whose scales are floats ask for a scale for every 32 columns, the best of four: the largest magnitude over 127, 125,
// 123 or 121. Those whose scales are small integers ask for one for every 128, the largest magnitude over 127.49, so that all
// that they do with 128 columns is done with integers. The same bits whichever kernel does it: maxima and sums of integers have
// one value in any order.
#pragma once

#include "common.cuh"

namespace CODER_NAMESPACE {

// Codes of this thread's four columns with `scale`, and the sum of their squared errors in 1024ths.
__device__ inline int codes_of(const float (&x)[4], float scale, int (&codes)[4]) {
  constexpr float ROUND = 12582912.0f;  // adding it rounds to nearest, ties to even, and leaves the integer in the low bits
  float inverse = 1.0f / scale;
  // A scale of zero, infinity or no number, or one so small that it has no inverse: all codes are 0.
  if (!(inverse <= 3.40282347e38f)) inverse = 0.0f;
  int sum = 0;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    float exact = x[i] * inverse, rounded = exact + ROUND;
    codes[i] = int8_t(as_bits(rounded));
    int error = int(as_bits((exact - (rounded - ROUND)) * 1024.0f + ROUND) & 0x7FF);
    error -= (error & 0x400) << 1;
    sum += error * error;
  }
  return sum;
}

// The largest of lanes that share a scale.
__device__ inline uint32_t largest_of(uint32_t bits, int shared) {
#pragma unroll
  for (int m = 1; m < RUN / 4; m *= 2) bits = max(bits, shuffle_xor(bits, m));
  if (shared == UNIT) {
#pragma unroll
    for (int m = RUN / 4; m < UNIT / 4; m *= 2) bits = max(bits, shuffle_xor(bits, m));
  }
  return bits;
}

// The best of the scales of eight lanes' columns, and the codes with it.
__device__ inline float best_scale(const float (&x)[4], float largest, int (&best)[4]) {
  float chosen = largest / 127.0f, least = as_float(0x7F800000);
#pragma unroll
  for (int most = 127; most >= 121; most -= 2) {
    int codes[4];
    float scale = largest / float(most);
    int errors = codes_of(x, scale, codes);
#pragma unroll
    for (int m = 1; m < RUN / 4; m *= 2) errors += shuffle_xor(errors, m);
    float error = float(errors) * scale * scale;
    if (error < least) {
      least = error, chosen = scale;
#pragma unroll
      for (int i = 0; i < 4; i++) best[i] = codes[i];
    }
  }
  return chosen;
}

// Writes q, scale and sum of columns c … c + 3 of row `row` of `to`, which are x. All lanes of the warp take part, each next to
// its neighbours, from a multiple of UNIT on; `mine`: whether this lane's columns are to be written. Rows are whole runs.
__device__ inline void round_columns(const Rows &to, size_t row, int c, const float (&x)[4], bool mine) {
  // Magnitudes compare as their bits do; what is not a number is the largest and stays visible in the scale.
  uint32_t bits = 0;
#pragma unroll
  for (int i = 0; i < 4; i++) bits = max(bits, as_bits(x[i]) & 0x7FFFFFFF);
  float largest = as_float(largest_of(bits, to.shared)), scale = largest / 127.49f;
  int codes[4] = {};
  if (to.shared == UNIT) {
    codes_of(x, scale, codes);
  } else {
    scale = best_scale(x, largest, codes);
  }
  int sum = codes[0] + codes[1] + codes[2] + codes[3];
#pragma unroll
  for (int m = 1; m < RUN / 8; m *= 2) sum += shuffle_xor(sum, m);
  int last = shuffle_xor(sum, RUN / 8);
  if (!mine) return;
  uint32_t packed = 0;
#pragma unroll
  for (int i = 0; i < 4; i++) packed |= uint32_t(codes[i] & 255) << 8 * i;
  int run = c % UNIT / RUN, word = c % RUN / 4;
  size_t unit = row * ceil_div(to.cols, UNIT) + c / UNIT;
  reinterpret_cast<uint32_t *>(to.q)[unit * (UNIT / 4) + word % 4 * 8 + run * 2 + word / 4] = packed;
  if (c % to.shared == 0) to.scale[unit * UNIT_RUNS + run] = scale;
  if (c % RUN == 0) to.sum[unit * UNIT_RUNS + run] = float_to_half(float(sum)) | uint32_t(float_to_half(float(last))) << 16;
}

// Rounds columns `first` … `end` - 1 of a row that the block has written, or others a launch ago: a unit to a warp, from number
// `warp` of `warps` on. Both are multiples of UNIT, or the row's end.
__device__ inline void round_written(const Rows &to, size_t row, int first, int end, int warp, int warps) {
#pragma unroll 1
  for (int unit = first + warp * UNIT; unit < end; unit += warps * UNIT) {
    int here = unit + 4 * int(threadIdx.x % WARP), c = min(here, end - 4);
    float4 v = *reinterpret_cast<const float4 *>(to.x + row * to.cols + c);
    const float x[4] = {v.x, v.y, v.z, v.w};
    round_columns(to, row, c, x, here < end);
  }
}

// Whether the columns of y can be rounded.
__device__ __host__ inline bool rounds(const Rows &y) { return y.q != nullptr && y.cols % RUN == 0; }

}  // namespace CODER_NAMESPACE
