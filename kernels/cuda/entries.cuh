// The entries of a tile of a product of many rows.
#pragma once

#include "matmul.cuh"

namespace CODER_NAMESPACE {

// The entries of a tile: which rows they read and write. A short tile repeats its last.
template <int TILE>
struct Entries {
  int x[TILE];
  int y[TILE];
};

// The entries of expert blockIdx.z from TILE · blockIdx.x on, put in shared memory; returns how many. 0 for a block that
// the routing leaves without work.
template <int TILE>
__device__ inline int gather(const Product &p, Entries<TILE> &to) {
  int begin = p.order ? p.start[blockIdx.z] : 0;
  int end = p.order ? p.start[blockIdx.z + 1] : p.entries;
  int first = begin + blockIdx.x * TILE;
  if (first >= end) return 0;
  if (threadIdx.x < TILE) {
    int at = min(first + int(threadIdx.x), end - 1);
    int entry = p.order ? p.order[at] : at;
    to.x[threadIdx.x] = entry / p.sharing;
    to.y[threadIdx.x] = entry;
  }
  return min(TILE, end - first);
}

}  // namespace CODER_NAMESPACE
