// Which experts a row takes: the arithmetic, for its kernel and for the tail of the router's product.
#pragma once

#include "exp.cuh"

namespace CODER_NAMESPACE {

constexpr int MAX_EXPERTS = 1024;

inline bool routable(const Routes &to) {
  return to.experts <= MAX_EXPERTS && to.top_k <= WARP && to.top_k <= to.experts && to.top_k >= 1;
}

// A logit and its expert as one number, which is larger the larger the logit, and of equals, the lower the expert. What is
// not a number counts as -∞; adding 0 makes both zeros one.
__device__ inline uint64_t rank_of(float logit, int expert) {
  uint32_t bits = as_bits(logit == logit ? logit + 0.0f : as_float(0xFF800000));
  bits = bits >> 31 ? ~bits : bits | 0x80000000;
  return uint64_t(bits) << 32 | (0xFFFFFFFF - unsigned(expert));
}

// expert and weight of a row [top_k]: the largest of its logits [experts], the largest first, and their exponentials over
// the sum of those: of the softmax over all experts nothing else remains after renormalisation. Weights of rows with NaN
// are NaN, their experts still differ. By one warp, top_k ≤ 32 ≤ … ≤ experts ≤ 1024; lane j keeps the j-th choice.
// Reads the logits top_k times, all but the first out of a cache.
__device__ inline void route_row(const Routes &to, const float *logits, int row) {
  int lane = threadIdx.x % WARP;
  const float *x = logits + size_t(row) * to.experts;
  uint64_t last = ~uint64_t(0);
  int mine = 0;
  for (int j = 0; j < to.top_k; j++) {
    // Ranks all differ, so the next is the largest below the last: nothing else need be remembered.
    uint64_t best = 0;
    for (int e = lane; e < to.experts; e += WARP) {
      uint64_t rank = rank_of(x[e], e);
      if (rank < last && rank > best) best = rank;
    }
#pragma unroll
    for (int m = 1; m < WARP; m *= 2) {
      uint64_t other = shuffle_xor(best, m);
      best = other > best ? other : best;
    }
    last = best;
    if (lane == j) mine = int(0xFFFFFFFF - uint32_t(best));
  }
  float logit = x[mine], weight = exponential(logit - shuffle(logit, 0)), sum = 0.0f;
  for (int j = 0; j < to.top_k; j++) sum += shuffle(weight, j);
  if (lane >= to.top_k) return;
  to.expert[size_t(row) * to.top_k + lane] = mine;
  to.weight[size_t(row) * to.top_k + lane] = weight / sum;
}

}  // namespace CODER_NAMESPACE
