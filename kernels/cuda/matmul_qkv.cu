// The product of queries, keys and values with few rows, and their rotation: what a layer begins with.
#include "few.cuh"
#include "rope.cuh"

namespace CODER_NAMESPACE {

constexpr int MOST_PARTS = 4;
constexpr int TURNING_BLOCKS = 16;

// Types of the parts, which may differ. Others would take so many registers that all would be slower, or are rare.
#define QKV_TYPES(OF) OF(Q4_0) OF(Q8_0) OF(Q3_K) OF(Q4_K) OF(Q5_K) OF(Q6_K) OF(IQ4_NL) OF(IQ4_XS)

struct QkvParts {
  Part part[MOST_PARTS];  // as many as there are, none without rows
};

// Blocks of a part, for each group of entries.
template <int ROWS>
__host__ __device__ inline int blocks_of(const Part &part) {
  return ceil_div(part.rows, WARPS * outputs_of(Q4_K, ROWS));
}

// Products of all parts with ROWS entries at a time, and in the tail what rope_kernel does with them. Grid: blocks of all parts, one
// part behind the other, · groups of entries. Reads all weights once for each group, q and scales of x from a cache; moves 8 bytes
// an element of q and k more, 4 of v, and what the cache takes.
template <int ROWS>
__global__ void __launch_bounds__(WARPS *WARP, resident(Q6_K, ROWS))
qkv_kernel(Product p, const __grid_constant__ QkvParts parts, int groups, Cache cache, const __grid_constant__ Rotation rotation,
           Batch batch, Tail tail) {
  if (works(tail)) {
    int block = blockIdx.x / groups, group = blockIdx.x % groups, i = 0;
    for (; block >= blocks_of<ROWS>(parts.part[i]); i++) block -= blocks_of<ROWS>(parts.part[i]);
    const Part part = parts.part[i];
#define OF(TYPE) \
  case TYPE: few<TYPE, ROWS>(p, part, group, block); break;
    switch (part.type) { QKV_TYPES(OF) }
#undef OF
  }
  Share share = finish(tail);
  if (share.index < 0) return;
  Angles<WARPS> &angles = shared<Angles<WARPS>>();
  int heads = cache.q_heads + 2 * cache.kv_heads, each = ceil_div(heads, WARPS);
  for (int unit = share.index; unit < p.entries * each; unit += share.of) {
    int row = unit / each, head = unit % each * WARPS + threadIdx.x / WARP;
    sync_block();
    turn_row(angles, rotation, batch.positions[row], cache.dim);
    sync_block();
    if (head < heads) turn_head(angles, p.y, cache, rotation, row, head, batch.slots[row]);
  }
}

template <int ROWS>
static int launch_rows(Device *device, const Product &p, const Matrix *w, const Cache &cache, const Rotation &rotation, const Batch &batch) {
  QkvParts parts = {};
  int groups = ceil_div(p.entries, ROWS), blocks = 0, n = 0;
  for (int i = 0; i < w->parts; i++) {
    if (w->part[i].rows == 0) continue;
    parts.part[n++] = w->part[i];
    blocks += blocks_of<ROWS>(w->part[i]);
  }
  return launch(device, QKV, qkv_kernel<ROWS>, dim3(unsigned(blocks) * groups), WARPS * WARP, sizeof(Angles<WARPS>), p, parts,
                groups, cache, rotation, batch, tail_of(device, TURNING_BLOCKS));
}

bool qkv_type(int type) {
#define OF(TYPE) \
  case TYPE: return true;
  switch (type) { QKV_TYPES(OF) }
#undef OF
  return false;
}

int matmul_qkv(Device *device, const Product &p, const Matrix *w, const Cache &cache, const Rotation &rotation, const Batch &batch) {
  if (p.entries == 1) return launch_rows<1>(device, p, w, cache, rotation, batch);
  if (p.entries == 2) return launch_rows<2>(device, p, w, cache, rotation, batch);
  if (p.entries <= 4) return launch_rows<4>(device, p, w, cache, rotation, batch);
  return launch_rows<8>(device, p, w, cache, rotation, batch);
}

}  // namespace CODER_NAMESPACE
