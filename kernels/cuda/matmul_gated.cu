// The products of gate and up with few rows, and the gate: what a feed-forward part reads its second weight with.
#include "exp.cuh"
#include "few.cuh"
#include "rounding.cuh"

namespace CODER_NAMESPACE {

constexpr int GATED_WARPS = 2 * SUMS;
constexpr int ROUNDING_BLOCKS = 16;

template <int TILES>
struct Gated {
  Totals<TILES> side[2];
};

// Gate and up, and the outputs of each part that are not.
struct Sides {
  Part part[2];
  int shift[2];
};

// y of a group's entries, of the columns of tile number `tile`.
template <int TYPE, int TILES>
__device__ inline void gate(Gated<TILES> &s, const Rows &y, const Product &p, const Sides &sides, int group, int tile) {
  BlockEntries entries = entries_of(p, group);
  int first = tile * TILE_OUTPUTS, g = threadIdx.x / WARP % SUMS, side = threadIdx.x / WARP / SUMS;
  const Part &part = sides.part[side];
  size_t from = (p.expert ? size_t(p.expert[group]) * part.rows : 0) + sides.shift[side];
  leave<TYPE, TILES>(s.side[side], p, part, from, first, y.cols, entries, g);
  sync_block();
  int e = threadIdx.x / TILE_OUTPUTS, o = threadIdx.x % TILE_OUTPUTS;
  if (e >= entries.count || first + o >= y.cols) return;
  float gate = total(s.side[0], p.x.cols, e, o), product = total(s.side[1], p.x.cols, e, o);
  y.x[size_t(entries.first + e) * y.cols + first + o] = gated(gate, product);
}

// y[e] = silu(gate[expert of e] · x[e / sharing]) · (up[expert of e] · x[e / sharing]), and in the tail its rounding. Grid (⌈y.cols / TILE_OUTPUTS⌉ · groups of entries), those of the same weights
// side by side. Reads all weights once for each group, the rounding of x from a cache, and writes y, which the tail reads, and
// its rounding.
template <int TYPE, int TILES>
__global__ void __launch_bounds__(GATED_WARPS *WARP, 1)
gated_kernel(Rows y, Product p, const __grid_constant__ Sides sides, int groups, Tail tail) {
  follow();
  if (works(tail)) gate<TYPE, TILES>(shared<Gated<TILES>>(), y, p, sides, blockIdx.x % groups, blockIdx.x / groups);
  Share share = finish(tail);
  if (share.index < 0) return;
  int units = ceil_div(y.cols, UNIT);
  for (int i = share.index * GATED_WARPS + threadIdx.x / WARP; i < p.entries * units; i += share.of * GATED_WARPS) {
    int first = i % units * UNIT;
    round_written(y, i / units, first, min(first + UNIT, y.cols), 0, 1);
  }
}

template <int TYPE, int TILES>
static int launch_tiles(Device *device, const Rows &y, const Product &p, const Part &up, int shift) {
  int groups = groups_of(p);
  dim3 grid(unsigned(ceil_div(y.cols, TILE_OUTPUTS)) * groups);
  Sides sides = {{p.part, up}, {0, shift}};
  return launch(device, GATED[TYPE], gated_kernel<TYPE, TILES>, grid, GATED_WARPS * WARP, sizeof(Gated<TILES>), y, p, sides, groups,
                tail_of(device, ROUNDING_BLOCKS));
}

// Two tiles of Q5_1 need more registers than so many warps have.
constexpr int most_tiles(int type) { return type == Q5_1 ? 1 : MOST_TILES; }

int gated_rows(int type) { return most_tiles(type) * TILE_ENTRIES; }

template <int TYPE>
static int launch_type(Device *device, const Rows &y, const Product &p, const Part &up, int shift) {
  return (tiles_of(p) == 1 ? launch_tiles<TYPE, 1> : launch_tiles<TYPE, most_tiles(TYPE)>)(device, y, p, up, shift);
}

int matmul_gated(Device *device, const Rows &y, const Product &p, const Part &up, int shift) {
  switch (p.part.type) {
    CODER_CODES(launch_type, device, y, p, up, shift)
    CODER_UNKNOWN
  }
}

}  // namespace CODER_NAMESPACE
