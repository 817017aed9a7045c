// Products of quantized weights with few rows, and the norm that follows them.
#include "few.cuh"
#include "norm.cuh"

namespace CODER_NAMESPACE {

template <int TILES>
struct Few {
  Totals<TILES> totals;
  Sums sums;
};

// Products of a part. Grid ⌈rows of part / TILE_OUTPUTS⌉ · groups of entries, those of the same weights side by side. Reads all
// weights once for each group, the rounding of x from a cache. The tail, if there is one, makes the norm of the entries.
template <int TYPE, int TILES>
__global__ void __launch_bounds__(SUMS *WARP, resident(TYPE, TILES)) few_kernel(Product p, int groups, Norm next, Tail tail) {
  allow_next();
  Few<TILES> &s = shared<Few<TILES>>();
  if (works(tail))
    few<TYPE, TILES>(s.totals, p, p.part, blockIdx.x % groups, blockIdx.x / groups);
  else
    await_previous();
  Share share = finish(tail);
  if (share.index >= 0) norm_tail(s.sums, next, p.y, p.entries, share);
}

template <int TYPE, int TILES>
static int launch_tiles(Device *device, const Product &p, const Norm &next) {
  int groups = groups_of(p);
  dim3 grid(unsigned(ceil_div(p.part.rows, TILE_OUTPUTS)) * groups);
  Tail tail = tail_of(device, next.w ? NORM_BLOCKS : 0);
  return launch(device, PRODUCT[TYPE], few_kernel<TYPE, TILES>, grid, SUMS * WARP, sizeof(Few<TILES>), p, groups, next, tail);
}

template <int TYPE>
static int launch_type(Device *device, const Product &p, const Norm &next) {
  return (tiles_of(p) == 1 ? launch_tiles<TYPE, 1> : launch_tiles<TYPE, 2>)(device, p, next);
}

int matmul_few(Device *device, const Product &p, const Norm &next) {
  switch (p.part.type) {
    CODER_CODES(launch_type, device, p, next)
    CODER_UNKNOWN
  }
}

}  // namespace CODER_NAMESPACE
