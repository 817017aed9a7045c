// Products with few rows, and what follows them.
#include "few.cuh"
#include "norm.cuh"
#include "route.cuh"

namespace CODER_NAMESPACE {

// Products of a part with ROWS entries at a time. Grid ⌈rows of part / (WARPS · OUTPUTS)⌉ · groups of entries, those of the same
// weights side by side. Reads all weights once for each group (from the second on out of a cache), q and scales of x from a
// cache. The tail, if there is one, makes the norm of the entries or, if the weights are numbers, their routes.
template <int TYPE, int ROWS>
__global__ void __launch_bounds__(WARPS *WARP, resident(TYPE, ROWS)) few_kernel(Product p, int groups, After after, Tail tail) {
  if (works(tail)) few<TYPE, ROWS>(p, p.part, blockIdx.x % groups, blockIdx.x / groups);
  Share share = finish(tail);
  if (share.index < 0) return;
  if (is_float(TYPE) && after.routes.experts) {
    for (int row = share.index * WARPS + threadIdx.x / WARP; row < p.entries; row += share.of * WARPS) route_row(after.routes, p.y, row);
  } else {
    norm_tail(shared<Sums>(), after.norm, p.y, p.entries, share);
  }
}

template <int TYPE, int ROWS>
static int launch_rows(Device *device, const Product &p, const After &after) {
  int groups = ceil_div(p.entries, ROWS);
  unsigned blocks = unsigned(ceil_div(p.part.rows, WARPS * outputs_of(TYPE, ROWS))) * groups;
  Tail tail = tail_of(device, after.norm.w ? NORM_BLOCKS : after.routes.experts ? ceil_div(p.entries, WARPS) : 0);
  return launch(device, PRODUCT[TYPE], few_kernel<TYPE, ROWS>, dim3(blocks), WARPS * WARP, sizeof(Sums), p, groups, after, tail);
}

template <int TYPE>
static int launch_type(Device *device, const Product &p, const After &after) {
  if (p.expert || p.entries == 1) return launch_rows<TYPE, 1>(device, p, after);
  if (p.entries == 2) return launch_rows<TYPE, 2>(device, p, after);
  if (p.entries <= 4) return launch_rows<TYPE, 4>(device, p, after);
  return launch_rows<TYPE, 8>(device, p, after);
}

int matmul_few(Device *device, const Product &p, const After &after) { CODER_BY_TYPE(p.part.type, launch_type, device, p, after) }

}  // namespace CODER_NAMESPACE
