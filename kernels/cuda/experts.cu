// Mixture of experts: which experts a row takes, and the sum of what they give. Their products are in matmul.cu.
#include "matmul.cuh"
#include "route.cuh"

namespace CODER_NAMESPACE {

constexpr int THREADS = 256;
constexpr int SORT_WARPS = 8;

// expert and weight [rows, top_k] from logits [rows, experts]. A warp a row.
__global__ void route_kernel(Routes to, const float *logits) {
  follow();
  route_row(to, logits, blockIdx.x);
}

struct Sorting {
  int lower[SORT_WARPS];
  int own[2][SORT_WARPS];  // of one round of entries and of the next
};

// order and start: entries sorted by expert, those of one expert ascending. A counting sort in which each expert's
// block counts for itself: the entries of lower experts are where its own begin. Threads take entries in runs of EACH.
// Reads the entries twice for each expert, out of a cache.
__global__ void __launch_bounds__(SORT_WARPS *WARP) sort_kernel(Routes to, int entries) {
  follow();
  constexpr int EACH = 8;
  Sorting &s = shared<Sorting>();
  int expert = blockIdx.x, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, begin = 0, round = 0;
  for (int i = threadIdx.x; i < entries; i += SORT_WARPS * WARP) begin += to.expert[i] < expert;
#pragma unroll
  for (int m = 1; m < WARP; m *= 2) begin += shuffle_xor(begin, m);
  if (lane == 0) s.lower[warp] = begin;
  sync_block();
  begin = 0;
  for (int w = 0; w < SORT_WARPS; w++) begin += s.lower[w];
  if (threadIdx.x == 0) to.start[expert] = begin;
  for (int first = 0; first < entries; first += SORT_WARPS * WARP * EACH, round ^= 1) {
    int from = first + threadIdx.x * EACH, count = 0;
    for (int i = from; i < min(from + EACH, entries); i++) count += to.expert[i] == expert;
    int upto = warp_sum_upto(count);
    if (lane == WARP - 1) s.own[round][warp] = upto;
    sync_block();
    int at = begin + upto - count;
    for (int w = 0; w < SORT_WARPS; w++) {
      if (w < warp) at += s.own[round][w];
      begin += s.own[round][w];
    }
    for (int i = from; i < min(from + EACH, entries); i++) {
      if (to.expert[i] == expert) to.order[at++] = i;
    }
  }
  if (threadIdx.x == 0 && expert == to.experts - 1) to.start[to.experts] = begin;
}

// x[r] += Σ_j weight[r, j] · y[r · top_k + j], the sum first, j ascending. x [rows, cols], y [rows · top_k, cols].
// A thread an element; moves 8 + 4 · top_k bytes each.
__global__ void mix_kernel(float *x, const float *y, Routes routes, int cols) {
  follow();
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
  if (!routable(*routes)) return refuse("more than `1024` experts, or not from `1` to `32` of them for a row");
  if (routes->rows == 0) return OK;
  int failed = launch(device, "route", route_kernel, dim3(routes->rows), WARP, 0, *routes, logits->x);
  if (failed != OK || routes->rows <= FEW_ROUTED) return failed;
  int entries = routes->rows * routes->top_k;
  return launch(device, "route sort", sort_kernel, dim3(routes->experts), SORT_WARPS * WARP, sizeof(Sorting), *routes, entries);
}

int mix_experts(Device *device, const Rows *x, const Rows *y, const Routes *routes) {
  size_t n = size_t(routes->rows) * x->cols;
  if (n == 0) return OK;
  unsigned blocks = unsigned((n + THREADS - 1) / THREADS);
  return launch(device, "mix_experts", mix_kernel, dim3(blocks), THREADS, 0, x->x, y->x, *routes, x->cols);
}

}  // namespace CODER_NAMESPACE
