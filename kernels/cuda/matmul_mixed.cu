// The products of a few rows' experts, and their sum: what a mixture's feed-forward part reads its last weight with.
#include "few.cuh"
#include "norm.cuh"

namespace CODER_NAMESPACE {

// Warps of a block, which has a multiprocessor to itself where there is one row: as many as there are registers for.
constexpr __host__ __device__ int mixed_warps(int type) { return resident(type, 1) * SUMS; }

struct Mixed {
  float sum[MIXED_EXPERTS][SUMS][TILE_OUTPUTS];
  float value[MIXED_EXPERTS][TILE_OUTPUTS];
  Sums sums;
};

// What a warp works on: unit `unit` of entry `entry`'s expert, one of sum unit % SUMS.
struct Work {
  int entry, unit;
};

// Reads both sides of a warp's outputs.
template <int TYPE>
__device__ inline void read(const Product &p, const Routes &routes, int first, int units, const Work &work,
                            typename Codes<TYPE>::Raw (&to)[2]) {
  int lane = threadIdx.x % WARP;
#pragma unroll
  for (int side = 0; side < 2; side++) {
    int o = min(first + lane / 4 + 8 * side, p.part.rows - 1);
    Codes<TYPE>::read(p.part.plane, uint32_t(routes.expert[work.entry] * p.part.rows + o) * units + work.unit, lane % 4, to[side]);
  }
}

// x[r, o] += Σ_j weight[r, j] · (w[expert of r, j][o] · p.x[r · top_k + j]), the sum first, j ascending: as mix_kernel has it. A
// block makes a tile's outputs of one row, its warps by turns the sums of the row's experts, of which there are at most
// MIXED_EXPERTS, and each reads its units of weights one step ahead. x [rows, p.part.rows].
template <int TYPE>
__device__ inline void mixed(Mixed &s, float *x, const Product &p, const Routes &routes) {
  int lane = threadIdx.x % WARP, r = blockIdx.x % routes.rows, first = blockIdx.x / routes.rows * TILE_OUTPUTS;
  int units = ceil_div(p.x.cols, UNIT), sums = min(SUMS, units);
  int from = r * routes.top_k, end = from + routes.top_k;
  auto begin = [&](int entry, int sum) { return Work{entry + sum / sums, sum % sums}; };
  Work work = begin(from, threadIdx.x / WARP);
  typename Codes<TYPE>::Raw raw[2];
  if (work.entry < end) read<TYPE>(p, routes, first, units, work, raw);
  float sum[4] = {};
#pragma unroll 1
  while (work.entry < end) {
    int own = work.unit % SUMS, entry = work.entry;
    bool ends = work.unit + SUMS >= units;
    Work next = ends ? begin(entry, own + mixed_warps(TYPE)) : Work{entry, work.unit + SUMS};
    Inputs<TYPE> in;
    load<TYPE>(p.x, {lane / 4 == 0 ? entry : -1, {lane % 4 == 0 ? entry : -1, -1}}, units, work.unit, lane % 4, in);
    Outputs<TYPE> w;
#pragma unroll
    for (int side = 0; side < 2; side++) unpack<TYPE>(w, side, raw[side], work.unit, lane % 4);
    if (next.entry < end) read<TYPE>(p, routes, first, units, next, raw);
    add_unit<TYPE>(w, in, sum);
    if (ends) {
      float(&to)[TILE_OUTPUTS] = s.sum[entry - from][own];
      if (lane % 4 == 0) to[lane / 4] = sum[0], to[lane / 4 + 8] = sum[2];
#pragma unroll
      for (int n = 0; n < 4; n++) sum[n] = 0.0f;
    }
    work = next;
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
  float mix = 0.0f;
  for (int k = 0; k < routes.top_k; k++) mix = fmaf(routes.weight[r * routes.top_k + k], s.value[k][o], mix);
  x[size_t(r) * p.out + first + o] += mix;
}

// That, and in its tail, if there is one, the norm of x. Grid ⌈p.part.rows / TILE_OUTPUTS⌉ · rows. Reads all weights of the row's
// experts once, the rounding of p.x from a cache.
template <int TYPE>
__global__ void __launch_bounds__(mixed_warps(TYPE) * WARP, 1) mixed_kernel(float *x, Product p, Routes routes, Norm norm, Tail tail) {
  follow();
  Mixed &s = shared<Mixed>();
  if (works(tail)) mixed<TYPE>(s, x, p, routes);
  Share share = finish(tail);
  if (share.index >= 0) norm_tail(s.sums, norm, x, routes.rows, share);
}

template <int TYPE>
static int launch_type(Device *device, float *x, const Product &p, const Routes &routes, const Norm &norm) {
  dim3 grid(unsigned(ceil_div(p.part.rows, TILE_OUTPUTS)) * routes.rows);
  Tail tail = tail_of(device, norm.w ? NORM_BLOCKS : 0);
  return launch(device, MIXED[TYPE], mixed_kernel<TYPE>, grid, mixed_warps(TYPE) * WARP, sizeof(Mixed), x, p, routes, norm, tail);
}

int matmul_mixed(Device *device, float *x, const Product &p, const Routes &routes, const Norm &norm) {
  switch (p.part.type) {
    CODER_CODES(launch_type, device, x, p, routes, norm)
    CODER_UNKNOWN
  }
}

}  // namespace CODER_NAMESPACE
