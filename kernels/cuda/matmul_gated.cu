// The products of gate and up with few rows, and the gate: what a feed-forward part reads its second weight with.
#include "exp.cuh"
#include "few.cuh"
#include "rounding.cuh"

namespace CODER_NAMESPACE {

constexpr int GATED_WARPS = 8;
static_assert(RUN == ROUNDED && RUN == WARP, "a block makes what shares a scale, a lane a column of it");

template <int ROWS>
struct Gated {
  float value[2][ROWS][RUN];  // gate and up
};

// y[e] = silu(gate[expert of e] · x[e / sharing]) · (up[expert of e] · x[e / sharing]), and its rounding, for ROWS entries at a
// time, or with experts for one. The part is gate, and `up` is up from output `shift` on; y's columns are whole runs. A block
// makes a run of columns, a warp every eighth of them. Grid (y.cols / RUN · groups of entries), those of the same weights side
// by side. Reads all weights once for each group, q and scales of x from a cache, and writes y and its rounding.
template <int TYPE, int ROWS>
__global__ void __launch_bounds__(GATED_WARPS *WARP, 2)
gated_kernel(Rows y, Product p, Part up, int shift, int groups) {
  Gated<ROWS> &s = shared<Gated<ROWS>>();
  constexpr int OUTPUTS = outputs_of(TYPE, ROWS), N = OUTPUTS * ROWS;
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, group = blockIdx.x % groups, first = blockIdx.x / groups * RUN;
  size_t from = p.expert ? size_t(p.expert[group]) * y.cols : 0, row[ROWS];
  rows_of<ROWS>(p, group, row);
#pragma unroll 1
  for (int c = warp; c < RUN; c += GATED_WARPS) {
#pragma unroll
    for (int side = 0; side < 2; side += OUTPUTS) {
      size_t o[OUTPUTS];
      Part part[OUTPUTS];
#pragma unroll
      for (int i = 0; i < OUTPUTS; i++) {
        o[i] = from + first + c + (side + i) * shift;
        part[i] = side + i ? up : p.part;
      }
      float total = totals<TYPE, ROWS>(p, part, o, row, lane);
      if (lane < N) s.value[side + place<N>(lane) / ROWS][place<N>(lane) % ROWS][c] = total;
    }
  }
  sync_block();
  for (int r = warp; r < ROWS; r += GATED_WARPS) {
    int e = group * ROWS + r;
    if (e >= p.entries) continue;
    float v = gated(s.value[0][r][lane], s.value[1][r][lane]);
    size_t at = size_t(e) * y.cols + first + lane;
    y.x[at] = v;
    round_columns<1>(y, at, {v}, true);
  }
}

template <int TYPE, int ROWS>
static int launch_rows(Device *device, const Rows &y, const Product &p, const Part &up, int shift) {
  int groups = ceil_div(p.entries, ROWS);
  dim3 grid(unsigned(y.cols / RUN) * groups);
  return launch(device, GATED[TYPE], gated_kernel<TYPE, ROWS>, grid, GATED_WARPS * WARP, sizeof(Gated<ROWS>), y, p, up, shift,
                groups);
}

template <int TYPE>
static int launch_type(Device *device, const Rows &y, const Product &p, const Part &up, int shift) {
  if (p.expert || p.entries == 1) return launch_rows<TYPE, 1>(device, y, p, up, shift);
  if (p.entries == 2) return launch_rows<TYPE, 2>(device, y, p, up, shift);
  return launch_rows<TYPE, GATED_ROWS>(device, y, p, up, shift);
}

int matmul_gated(Device *device, const Rows &y, const Product &p, const Part &up, int shift) {
  CODER_BY_TYPE(p.part.type, launch_type, device, y, p, up, shift)
}

}  // namespace CODER_NAMESPACE
