// The products of a few rows' experts, and their sum: what a mixture's feed-forward part reads its last weight with.
#include "few.cuh"
#include "norm.cuh"

namespace CODER_NAMESPACE {

template <int OUTPUTS>
struct Mixed {
  float value[MIXED_EXPERTS][OUTPUTS];
  Sums sums;
};

// x[r, o] += Σ_j weight[r, j] · (w[expert of r, j][o] · p.x[r · top_k + j]), the sum first, j ascending: as mix_kernel has it. A
// block makes outputs_of(TYPE, 1) outputs of one row, a warp those of one of the row's experts, of which there are at most
// MIXED_EXPERTS. x [rows, p.part.rows].
template <int TYPE>
__device__ inline void mixed(float *x, const Product &p, const Routes &routes) {
  constexpr int OUTPUTS = outputs_of(TYPE, 1);
  Mixed<OUTPUTS> &s = shared<Mixed<OUTPUTS>>();
  int lane = threadIdx.x % WARP, j = threadIdx.x / WARP, r = blockIdx.x % routes.rows;
  int first = blockIdx.x / routes.rows * OUTPUTS, entry = r * routes.top_k + j;
  size_t from = size_t(routes.expert[entry]) * p.part.rows, o[OUTPUTS], row[1] = {size_t(entry)};
#pragma unroll
  for (int i = 0; i < OUTPUTS; i++) o[i] = from + min(first + i, p.part.rows - 1);
  const Part part[1] = {p.part};
  float total = totals<TYPE, 1>(p, part, o, row, lane);
  if (lane < OUTPUTS) s.value[j][place<OUTPUTS>(lane)] = total;
  sync_block();
  int c = threadIdx.x, to = first + c;
  if (c >= OUTPUTS || to >= p.part.rows) return;
  float sum = 0.0f;
  for (int k = 0; k < routes.top_k; k++) sum = fmaf(routes.weight[r * routes.top_k + k], s.value[k][c], sum);
  x[size_t(r) * p.out + to] += sum;
}

// That, and in its tail, if there is one, the norm of x. Grid ⌈p.part.rows / OUTPUTS⌉ · rows. Reads all weights of the row's
// experts once, q and scales of p.x from a cache.
template <int TYPE>
__global__ void __launch_bounds__(MIXED_EXPERTS *WARP, TYPE == Q2_K || TYPE == Q4_K ? 2 : 3)
mixed_kernel(float *x, Product p, Routes routes, Norm norm, Tail tail) {
  if (works(tail)) mixed<TYPE>(x, p, routes);
  Share share = finish(tail);
  if (share.index >= 0) norm_tail(shared<Mixed<outputs_of(TYPE, 1)>>().sums, norm, x, routes.rows, share);
}

template <int TYPE>
static int launch_type(Device *device, float *x, const Product &p, const Routes &routes, const Norm &norm) {
  constexpr int OUTPUTS = outputs_of(TYPE, 1);
  dim3 grid(unsigned(ceil_div(p.part.rows, OUTPUTS)) * routes.rows);
  Tail tail = tail_of(device, norm.w ? NORM_BLOCKS : 0);
  return launch(device, MIXED[TYPE], mixed_kernel<TYPE>, grid, routes.top_k * WARP, sizeof(Mixed<OUTPUTS>), x, p, routes, norm,
                tail);
}

int matmul_mixed(Device *device, float *x, const Product &p, const Routes &routes, const Norm &norm) {
  CODER_BY_TYPE(p.part.type, launch_type, device, x, p, routes, norm)
}

}  // namespace CODER_NAMESPACE
