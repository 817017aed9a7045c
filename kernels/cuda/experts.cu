// Mixture of experts: which experts a row takes, and the sum of what they give. Their products are in matmul.cu.
#include "exp.cuh"
#include "matmul.cuh"

namespace CODER_NAMESPACE {

constexpr int THREADS = 256;
constexpr int MAX_EXPERTS = 1024;

// A logit and its expert as one number, which is larger the larger the logit, and of equals, the lower the expert. What is
// not a number counts as -∞; adding 0 makes both zeros one.
__device__ inline uint64_t rank_of(float logit, int expert) {
  uint32_t bits = as_bits(logit == logit ? logit + 0.0f : as_float(0xFF800000));
  bits = bits >> 31 ? ~bits : bits | 0x80000000;
  return uint64_t(bits) << 32 | (0xFFFFFFFF - unsigned(expert));
}

// expert and weight [rows, top_k]: the largest of logits [rows, experts], the largest first, and their exponentials over
// the sum of those: of the softmax over all experts nothing else remains after renormalisation. Weights of rows with NaN
// are NaN, their experts still differ. A warp a row, top_k ≤ 32 ≤ … ≤ experts ≤ 1024; lane j keeps the j-th choice.
// Reads the logits top_k times, all but the first out of a cache.
__global__ void route_kernel(Routes to, const float *logits) {
  int row = blockIdx.x, lane = threadIdx.x;
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

// order and start: entries sorted by expert, those of one expert ascending. A counting sort in which each expert's
// warp counts for itself: the entries of lower experts are where its own begin. Lanes take entries in runs of EACH.
// Reads the entries twice for each expert, out of a cache.
__global__ void sort_kernel(Routes to, int entries) {
  constexpr int EACH = 8;
  int expert = blockIdx.x, lane = threadIdx.x, begin = 0;
  for (int i = lane; i < entries; i += WARP) begin += to.expert[i] < expert;
#pragma unroll
  for (int m = 1; m < WARP; m *= 2) begin += shuffle_xor(begin, m);
  if (lane == 0) to.start[expert] = begin;
  for (int first = 0; first < entries; first += WARP * EACH) {
    int from = first + lane * EACH, count = 0;
    for (int i = from; i < min(from + EACH, entries); i++) count += to.expert[i] == expert;
    int upto = count;  // of this lane and those before it
#pragma unroll
    for (int d = 1; d < WARP; d *= 2) {
      int before = shuffle(upto, max(lane - d, 0));
      if (lane >= d) upto += before;
    }
    int at = begin + upto - count;
    for (int i = from; i < min(from + EACH, entries); i++) {
      if (to.expert[i] == expert) to.order[at++] = i;
    }
    begin += shuffle(upto, WARP - 1);
  }
  if (lane == 0 && expert == to.experts - 1) to.start[to.experts] = begin;
}

// x[r] += Σ_j weight[r, j] · y[r · top_k + j], the sum first, j ascending. x [rows, cols], y [rows · top_k, cols].
// A thread an element; moves 8 + 4 · top_k bytes each.
__global__ void mix_kernel(float *x, const float *y, Routes routes, int cols) {
  size_t i = size_t(blockIdx.x) * THREADS + threadIdx.x, row = i / cols, c = i % cols;
  if (row >= size_t(routes.rows)) return;
  float sum = 0.0f;
  for (int j = 0; j < routes.top_k; j++) {
    size_t entry = row * routes.top_k + j;
    sum = fmaf(routes.weight[entry], y[entry * cols + c], sum);
  }
  x[i] += sum;
}

int route(Device *device, const Routes *routes, const Rows *logits) {
  if (routes->experts > MAX_EXPERTS || routes->top_k > WARP || routes->top_k > routes->experts || routes->top_k < 1) {
    return refuse("more than `1024` experts, or not from `1` to `32` of them for a row");
  }
  if (routes->rows == 0) return OK;
  int failed = launch(device, "route", route_kernel, dim3(routes->rows), WARP, 0, *routes, logits->x);
  if (failed != OK || routes->rows <= FEW_ROWS) return failed;
  int entries = routes->rows * routes->top_k;
  return launch(device, "route sort", sort_kernel, dim3(routes->experts), WARP, 0, *routes, entries);
}

int mix_experts(Device *device, const Rows *x, const Rows *y, const Routes *routes) {
  size_t n = size_t(routes->rows) * x->cols;
  if (n == 0) return OK;
  unsigned blocks = unsigned((n + THREADS - 1) / THREADS);
  return launch(device, "mix_experts", mix_kernel, dim3(blocks), THREADS, 0, x->x, y->x, *routes, x->cols);
}

}  // namespace CODER_NAMESPACE
