// The rotation of queries and keys, and the writing of keys and values, by themselves.
#include "rope.cuh"

namespace CODER_NAMESPACE {
namespace {

constexpr int HEADS = 8;  // of a block, a warp each
constexpr int THREADS = HEADS * WARP;

// The bias of all heads, norm and rotation of those of q and k in place, k and v to the row's slot (none if -1). qkv [rows,
// q heads ‖ k heads ‖ v heads, dim], dim even and ≤ MAX_HEAD. Grid (row, ⌈heads / 8⌉), a warp a head. The slots of a batch are
// distinct but for -1. Moves 8 bytes an element of q and k, 4 of v, and what the cache takes.
__global__ void __launch_bounds__(THREADS)
rope_kernel(float *qkv, Cache cache, Rotation rotation, const int32_t *positions, const int32_t *slots) {
  follow();
  Angles<HEADS> &angles = shared<Angles<HEADS>>();
  int row = blockIdx.x, head = blockIdx.y * HEADS + threadIdx.x / WARP;
  turn_row(angles, rotation, positions[row], cache.dim);
  sync_block();
  if (head < cache.q_heads + 2 * cache.kv_heads) turn_head(angles, qkv, cache, rotation, row, head, slots[row]);
}

}  // namespace

int rope(Device *device, const Rows *qkv, const Cache *cache, const Rotation *rotation, const Batch *batch) {
  if (qkv->rows == 0) return OK;
  if (const char *why = not_rotated(*qkv, *cache)) return refuse(why);
  dim3 grid(qkv->rows, ceil_div(cache->q_heads + 2 * cache->kv_heads, HEADS));
  return launch(device, "rope", rope_kernel, grid, THREADS, sizeof(Angles<HEADS>), qkv->x, *cache, *rotation,
                batch->positions, batch->slots);
}

}  // namespace CODER_NAMESPACE
