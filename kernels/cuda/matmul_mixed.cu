// The products of a few rows' experts, and their sum: what a mixture's feed-forward part reads its last weight with.
#include "few.cuh"
#include "norm.cuh"

namespace CODER_NAMESPACE {

constexpr int MIXED_WARPS = 16;

struct Mixed {
  float sum[MIXED_EXPERTS][SUMS][TILE_OUTPUTS];
  float value[MIXED_EXPERTS][TILE_OUTPUTS];
  Sums sums;
};

// x[r, o] += Σ_j weight[r, j] · (w[expert of r, j][o] · p.x[r · top_k + j]), the sum first, j ascending: as mix_kernel has it. A
// block makes a tile's outputs of one row, a warp every sixteenth of the sums of the row's experts, of which there are at most
// MIXED_EXPERTS. x [rows, p.part.rows].
template <int TYPE>
__device__ inline void mixed(Mixed &s, float *x, const Product &p, const Routes &routes) {
  int lane = threadIdx.x % WARP, r = blockIdx.x % routes.rows, first = blockIdx.x / routes.rows * TILE_OUTPUTS;
  int sums = min(SUMS, ceil_div(p.x.cols, UNIT));
  for (int i = threadIdx.x / WARP; i < routes.top_k * sums; i += MIXED_WARPS) {
    int j = i / sums, g = i % sums, entry = r * routes.top_k + j;
    auto rows = [&](int) { return InputRows{lane / 4 == 0 ? entry : -1, {lane % 4 == 0 ? entry : -1, -1}}; };
    float sum[1][4] = {};
    sum_units<TYPE, 1>(p.x, p.part, size_t(routes.expert[entry]) * p.part.rows, first, p.part.rows, rows, g, sum);
    if (lane % 4 == 0) s.sum[j][g][lane / 4] = sum[0][0], s.sum[j][g][lane / 4 + 8] = sum[0][2];
  }
  sync_block();
  int j = threadIdx.x / TILE_OUTPUTS, o = threadIdx.x % TILE_OUTPUTS;
  if (j < routes.top_k) {
    float v = 0.0f;
    for (int g = 0; g < sums; g++) v += s.sum[j][g][o];
    s.value[j][o] = v;
  }
  sync_block();
  if (j > 0 || first + o >= p.part.rows) return;
  float sum = 0.0f;
  for (int k = 0; k < routes.top_k; k++) sum = fmaf(routes.weight[r * routes.top_k + k], s.value[k][o], sum);
  x[size_t(r) * p.out + first + o] += sum;
}

// That, and in its tail, if there is one, the norm of x. Grid ⌈p.part.rows / TILE_OUTPUTS⌉ · rows. Reads all weights of the row's
// experts once, the rounding of p.x from a cache.
template <int TYPE>
__global__ void __launch_bounds__(MIXED_WARPS *WARP, 1) mixed_kernel(float *x, Product p, Routes routes, Norm norm, Tail tail) {
  Mixed &s = shared<Mixed>();
  if (works(tail)) mixed<TYPE>(s, x, p, routes);
  Share share = finish(tail);
  if (share.index >= 0) norm_tail(s.sums, norm, x, routes.rows, share);
}

template <int TYPE>
static int launch_type(Device *device, float *x, const Product &p, const Routes &routes, const Norm &norm) {
  dim3 grid(unsigned(ceil_div(p.part.rows, TILE_OUTPUTS)) * routes.rows);
  Tail tail = tail_of(device, norm.w ? NORM_BLOCKS : 0);
  return launch(device, MIXED[TYPE], mixed_kernel<TYPE>, grid, MIXED_WARPS * WARP, sizeof(Mixed), x, p, routes, norm, tail);
}

int matmul_mixed(Device *device, float *x, const Product &p, const Routes &routes, const Norm &norm) {
  switch (p.part.type) {
    CODER_CODES(launch_type, device, x, p, routes, norm)
    CODER_UNKNOWN
  }
}

}  // namespace CODER_NAMESPACE
