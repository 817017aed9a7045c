// The products of gate and up with few rows, and the gate: what a feed-forward part reads its second weight with.
#include "exp.cuh"
#include "few.cuh"
#include "rounding.cuh"

namespace CODER_NAMESPACE {

// A tile's outputs are so many of gate and as many of up.
constexpr int GATED_OUTPUTS = TILE_OUTPUTS / 2;
constexpr int ROUNDING_BLOCKS = 32;

// Gate and up, and the outputs of each part that are not.
struct Sides {
  Part part[2];
  int shift[2];
};

// y of a group's entries, of the columns of tile number `tile`. Waits for the launch before.
template <int TYPE, int TILES>
__device__ inline void gate(Totals<TILES> &s, const Rows &y, const Product &p, const Sides &sides, int group, int tile) {
  BlockEntries entries = entries_of(p, group);
  int first = tile * GATED_OUTPUTS, own = min(first + int(threadIdx.x) % WARP / 4, y.cols - 1);
  auto side = [&](int i, int expert) -> PartRow {
    return {sides.part[i], size_t(expert) * sides.part[i].rows + sides.shift[i] + own};
  };
  leave<TYPE, TILES>(s, p, group, entries, side);
  sync_block();
  int e = threadIdx.x / GATED_OUTPUTS, o = threadIdx.x % GATED_OUTPUTS;
  if (e >= entries.count || first + o >= y.cols) return;
  float gate = total(s, p.x.cols, e, o), product = total(s, p.x.cols, e, o + GATED_OUTPUTS);
  y.x[size_t(entries.first + e) * y.cols + first + o] = gated(gate, product);
}

// y[e] = silu(gate[expert of e] · x[e / sharing]) · (up[expert of e] · x[e / sharing]), and in the tail its rounding. Grid
// ⌈y.cols / GATED_OUTPUTS⌉ · groups of entries, those of the same weights side by side. Reads all weights once for each group, the
// rounding of x from a cache, and writes y, which the tail reads, and its rounding.
template <int TYPE, int TILES>
__global__ void __launch_bounds__(SUMS *WARP, resident(TYPE, TILES))
gated_kernel(Rows y, Product p, const __grid_constant__ Sides sides, int groups, Tail tail) {
  allow_next();
  if (works(tail))
    gate<TYPE, TILES>(shared<Totals<TILES>>(), y, p, sides, blockIdx.x % groups, blockIdx.x / groups);
  else
    await_previous();
  Share share = finish(tail);
  if (share.index < 0) return;
  int units = ceil_div(y.cols, UNIT);
  for (int i = share.index * SUMS + threadIdx.x / WARP; i < p.entries * units; i += share.of * SUMS) {
    int first = i % units * UNIT;
    round_written(y, i / units, first, min(first + UNIT, y.cols), 0, 1);
  }
}

template <int TYPE, int TILES>
static int launch_tiles(Device *device, const Rows &y, const Product &p, const Part &up, int shift) {
  int groups = groups_of(p);
  dim3 grid(unsigned(ceil_div(y.cols, GATED_OUTPUTS)) * groups);
  Sides sides = {{p.part, up}, {0, shift}};
  return launch(device, GATED[TYPE], gated_kernel<TYPE, TILES>, grid, SUMS * WARP, sizeof(Totals<TILES>), y, p, sides, groups,
                tail_of(device, ROUNDING_BLOCKS));
}

template <int TYPE>
static int launch_type(Device *device, const Rows &y, const Product &p, const Part &up, int shift) {
  return (tiles_of(p) == 1 ? launch_tiles<TYPE, 1> : launch_tiles<TYPE, 2>)(device, y, p, up, shift);
}

int matmul_gated(Device *device, const Rows &y, const Product &p, const Part &up, int shift) {
  switch (p.part.type) {
    CODER_CODES(launch_type, device, y, p, up, shift)
    CODER_UNKNOWN
  }
}

}  // namespace CODER_NAMESPACE
