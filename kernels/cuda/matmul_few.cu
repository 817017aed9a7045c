// Products with few rows.
#include "few.cuh"

namespace CODER_NAMESPACE {

// y[e, o] = w[expert of e][o] · x[e / sharing] for ROWS entries at a time, or with experts for one. A warp makes
// outputs_of(TYPE, ROWS) outputs.
// Grid ⌈rows of part / (WARPS · OUTPUTS)⌉ · groups of entries, those of the same weights side by side. No shared memory.
// Reads all weights once for each group (from the second on out of a cache), q and scales of x from a cache.
template <int TYPE, int ROWS>
__global__ void __launch_bounds__(WARPS *WARP, resident(TYPE, ROWS)) few_kernel(Product p, int groups) {
  constexpr int OUTPUTS = outputs_of(TYPE, ROWS), N = OUTPUTS * ROWS;
  int lane = threadIdx.x % WARP, group = blockIdx.x % groups;
  int first = (blockIdx.x / groups * WARPS + threadIdx.x / WARP) * OUTPUTS;
  if (first >= p.part.rows) return;
  size_t from = p.expert ? size_t(p.expert[group]) * p.part.rows : 0;
  size_t row[ROWS], o[OUTPUTS];
  rows_of<ROWS>(p, group, row);
#pragma unroll
  for (int i = 0; i < OUTPUTS; i++) o[i] = from + min(first + i, p.part.rows - 1);
  const Part part[1] = {p.part};
  float total = totals<TYPE, ROWS>(p, part, o, row, lane);
  int to = first + place<N>(lane) / ROWS, e = group * ROWS + place<N>(lane) % ROWS;
  if (lane < N && to < p.part.rows && e < p.entries) put(p, e, to, total);
}

template <int TYPE, int ROWS>
static int launch_rows(Device *device, const Product &p) {
  int groups = ceil_div(p.entries, ROWS);
  unsigned blocks = unsigned(ceil_div(p.part.rows, WARPS * outputs_of(TYPE, ROWS))) * groups;
  return launch(device, PRODUCT[TYPE], few_kernel<TYPE, ROWS>, dim3(blocks), WARPS * WARP, 0, p, groups);
}

template <int TYPE>
static int launch_type(Device *device, const Product &p) {
  if (p.expert || p.entries == 1) return launch_rows<TYPE, 1>(device, p);
  if (p.entries == 2) return launch_rows<TYPE, 2>(device, p);
  if (p.entries <= 4) return launch_rows<TYPE, 4>(device, p);
  return launch_rows<TYPE, 8>(device, p);
}

int matmul_few(Device *device, const Product &p) { CODER_BY_TYPE(p.part.type, launch_type, device, p) }

}  // namespace CODER_NAMESPACE
