// The entries of a tile of a product of many rows.
#pragma once

#include "matmul.cuh"

namespace CODER_NAMESPACE {

// The entries of a tile: which rows they read and write. A short tile repeats its last. With them what a product's loop has no
// registers for: their expert, the part of its outputs, and how many they are.
template <int TILE>
struct Entries {
  int x[TILE];
  int y[TILE];
  int expert, outputs, count;
};

// What a block makes: part number `outputs` of the outputs, of entries `first` to `end` of an expert.
struct Spot {
  int expert, outputs, first, end;
};

// Blocks of a launch for `parts` parts of the outputs. Experts' entries are known to the card alone: tiles that are not full are as
// many as experts that have entries, at most.
template <int TILE>
inline unsigned blocks_of(const Product &p, int parts) {
  int experts = p.order ? min(p.experts, p.entries) : 1;
  return unsigned((p.entries + (TILE - 1) * experts) / TILE) * parts;
}

// The work of block number blockIdx.x: expert by expert, of each one part of its outputs after the other, of each part, whose
// weights are then in a cache, the tiles of its entries. No entries for a block that the routing leaves without work. By all lanes.
template <int TILE>
__device__ inline Spot spot_of(const Product &p, int parts) {
  int block = blockIdx.x, lane = threadIdx.x % WARP;
  if (!p.order) {
    int tiles = ceil_div(p.entries, TILE);
    return {0, block / tiles, block % tiles * TILE, p.entries};
  }
  for (int from = 0; from < p.experts; from += WARP) {
    int expert = min(from + lane, p.experts - 1), begin = p.start[expert], end = p.start[expert + 1];
    int tiles = from + lane < p.experts ? ceil_div(end - begin, TILE) : 0;
    int upto = warp_sum_upto(tiles * parts), all = shuffle(upto, WARP - 1);
    if (block >= all) {
      block -= all;
      continue;
    }
    int mine = upto <= block;
#pragma unroll
    for (int m = 1; m < WARP; m *= 2) mine += shuffle_xor(mine, m);
    int own = block - shuffle(upto - tiles * parts, mine);
    begin = shuffle(begin, mine), end = shuffle(end, mine), tiles = shuffle(tiles, mine);
    return {from + mine, own / tiles, begin + own % tiles * TILE, end};
  }
  return {0, 0, 0, 0};
}

// Puts a tile in shared memory; returns how many entries it has.
template <int TILE>
__device__ inline int gather(const Product &p, const Spot &spot, Entries<TILE> &to) {
  if (spot.first >= spot.end) return 0;
  int count = min(TILE, spot.end - spot.first);
  if (threadIdx.x == 0) to.expert = spot.expert, to.outputs = spot.outputs, to.count = count;
  if (threadIdx.x < TILE) {
    int at = min(spot.first + int(threadIdx.x), spot.end - 1);
    int entry = p.order ? p.order[at] : at;
    to.x[threadIdx.x] = entry / p.sharing;
    to.y[threadIdx.x] = entry;
  }
  return count;
}

}  // namespace CODER_NAMESPACE
