// Activations in eight bits, what products of quantized weights read: the arithmetic, for every kernel that makes rows.
//
// Every 32 columns share the best of four scales, their largest magnitude over 127, 125, 123 or 121. The same bits as
// cpu/quantized.rs, whichever kernel does it and however many columns a thread holds: maxima and sums of integers have one
// value in any order.
#pragma once

#include "common.cuh"

namespace CODER_NAMESPACE {

constexpr int ROUNDED = 32;  // columns that share a scale

// Codes of this thread's columns with `scale`, and the sum of their squared errors in 1024ths.
template <int EACH>
__device__ inline int codes_of(const float (&x)[EACH], float scale, int (&codes)[EACH]) {
  constexpr float ROUND = 12582912.0f;  // adding it rounds to nearest, ties to even, and leaves the integer in the low bits
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

// Writes q, scale and sum of EACH columns (4, or 1) from element `at` of `to` on, which are x. All lanes of the warp take
// part, each next to its neighbours; `mine`: whether this lane's columns are to be written. Rows are whole runs.
template <int EACH>
__device__ inline void round_columns(const Rows &to, size_t at, const float (&x)[EACH], bool mine) {
  constexpr int LANES = ROUNDED / EACH;  // of a run
  // Magnitudes compare as their bits do; what is not a number is the largest and stays visible in the scale.
  uint32_t bits = 0;
#pragma unroll
  for (int i = 0; i < EACH; i++) bits = max(bits, as_bits(x[i]) & 0x7FFFFFFF);
#pragma unroll
  for (int m = 1; m < LANES; m *= 2) bits = max(bits, shuffle_xor(bits, m));
  float largest = as_float(bits), best_scale = largest / 127.0f, least = as_float(0x7F800000);
  int best[EACH] = {};
#pragma unroll
  for (int most = 127; most >= 121; most -= 2) {
    int codes[EACH];
    float scale = largest / float(most);
    int errors = codes_of(x, scale, codes);
#pragma unroll
    for (int m = 1; m < LANES; m *= 2) errors += shuffle_xor(errors, m);
    float error = float(errors) * scale * scale;
    if (error < least) {
      least = error, best_scale = scale;
#pragma unroll
      for (int i = 0; i < EACH; i++) best[i] = codes[i];
    }
  }
  int sum = 0;
  uint32_t packed = 0;
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    sum += best[i];
    packed |= uint32_t(best[i] & 255) << 8 * i;
  }
#pragma unroll
  for (int m = 1; m < LANES / 2; m *= 2) sum += shuffle_xor(sum, m);
  if (!mine) return;
  if constexpr (EACH == 4) {
    *reinterpret_cast<uint32_t *>(to.q + at) = packed;
  } else {
    static_assert(EACH == 1, "a word of codes, or one");
    to.q[at] = int8_t(packed);
  }
  if (at % ROUNDED == 0) to.scale[at / ROUNDED] = best_scale;
  if (at % (ROUNDED / 2) == 0) to.sum[at / (ROUNDED / 2)] = sum;
}

}  // namespace CODER_NAMESPACE
