// The product of queries, keys and values with few rows, and their rotation: what a layer begins with.
#include "few.cuh"
#include "rope.cuh"

namespace CODER_NAMESPACE {

constexpr int MOST_PARTS = 4;
constexpr int TURNING_BLOCKS = 16;

// Types of the parts, which may differ, but read one rounding of x. Others would take so many registers that all would be slower,
// or are rare.
#define QKV_TYPES(OF) OF(Q4_0) OF(Q8_0) OF(Q3_K) OF(Q4_K) OF(Q5_K) OF(Q6_K) OF(IQ4_NL) OF(IQ4_XS)

struct QkvParts {
  Part part[MOST_PARTS];  // as many as there are, none without rows
};

template <int TILES>
union Qkv {
  Totals<TILES> totals;
  Angles<SUMS> angles;
};

// Tiles of a part's outputs.
__host__ __device__ inline int rows_in_tiles(const Part &part) { return ceil_div(part.rows, TILE_OUTPUTS); }

// Products of all parts, and in the tail what rope_kernel does with them. Grid: tiles of all parts, one part behind the other.
// Reads all weights once, the rounding of x from a cache; moves 8 bytes an element of q and k more, 4 of v, and what the cache
// takes.
template <int TILES>
__global__ void __launch_bounds__(SUMS *WARP, resident(Q4_K, TILES))
qkv_kernel(Product p, const __grid_constant__ QkvParts parts, Cache cache, const __grid_constant__ Rotation rotation, Batch batch,
           Tail tail) {
  allow_next();
  Qkv<TILES> &s = shared<Qkv<TILES>>();
  if (works(tail)) {
    int tile = blockIdx.x, i = 0;
    for (; tile >= rows_in_tiles(parts.part[i]); i++) tile -= rows_in_tiles(parts.part[i]);
    const Part &part = parts.part[i];
#define OF(TYPE) \
  case TYPE: few<TYPE, TILES>(s.totals, p, part, 0, tile); break;
    switch (part.type) {
      QKV_TYPES(OF)
      default: await_previous();  // no type of these, but every thread waits
    }
#undef OF
  } else {
    await_previous();
  }
  Share share = finish(tail);
  if (share.index < 0) return;
  int heads = cache.q_heads + 2 * cache.kv_heads, each = ceil_div(heads, SUMS);
  for (int turn = share.index; turn < p.entries * each; turn += share.of) {
    int row = turn / each, head = turn % each * SUMS + threadIdx.x / WARP;
    sync_block();
    turn_row(s.angles, rotation, batch.positions[row], cache.dim);
    sync_block();
    if (head < heads) turn_head(s.angles, p.y, cache, rotation, row, head, batch.slots[row]);
  }
}

bool qkv_type(int type) {
#define OF(TYPE) \
  case TYPE: return true;
  switch (type) { QKV_TYPES(OF) }
#undef OF
  return false;
}

int matmul_qkv(Device *device, const Product &p, const Matrix *w, const Cache &cache, const Rotation &rotation, const Batch &batch) {
  QkvParts parts = {};
  int tiles = 0, n = 0;
  for (int i = 0; i < w->parts; i++) {
    if (w->part[i].rows == 0) continue;
    parts.part[n++] = w->part[i];
    tiles += rows_in_tiles(w->part[i]);
  }
  Tail tail = tail_of(device, TURNING_BLOCKS);
  if (tiles_of(p) == 1) return launch(device, QKV, qkv_kernel<1>, dim3(tiles), SUMS * WARP, sizeof(Qkv<1>), p, parts, cache, rotation, batch, tail);
  return launch(device, QKV, qkv_kernel<2>, dim3(tiles), SUMS * WARP, sizeof(Qkv<2>), p, parts, cache, rotation, batch, tail);
}

}  // namespace CODER_NAMESPACE
