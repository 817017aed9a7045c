// Causal attention over the paged cache, with several query heads to each key and value head: few rows by chunks of their context
// (attention_few.cuh), many, or more results than there are places, by tiles (attention_many.cuh). softmax.cuh has the arithmetic
// of both.
#include "attention_few.cuh"
#include "attention_many.cuh"

namespace CODER_NAMESPACE {
namespace {

constexpr int TILED_ROWS = 64;      // more rows than these fill a card as tiles
constexpr int MERGING_BLOCKS = 32;
constexpr int FILLING_BLOCKS = 64;  // that ask memory for as much as it gives

Group group_of(const Cache &cache, int most) {
  int size = cache.q_heads / cache.kv_heads, parts = ceil_div(size, most);
  return {size, parts, ceil_div(size, parts)};
}

template <int TYPE, bool WHOLE>
int launch_attention(Device *device, const Rows *y, const Rows *qkv, const Cache *cache, const Batch *batch,
                     const Partials *partials) {
  int rows = qkv->rows, dim = cache->dim, failed;
  Group few = group_of(*cache, QUERIES);
  int stretches = ceil_div(batch->chunks, STRETCH), blocks = rows * cache->kv_heads * few.parts * stretches;
  bool fill = blocks >= FILLING_BLOCKS || rows * batch->chunks > partials->places;
  int chunks = fill ? STRETCH : 1, places = fill ? stretches : batch->chunks;
  if (rows <= TILED_ROWS && size_t(rows) * places <= size_t(partials->places)) {
    Rows to = *y;
    if (!rounds(to) || dim % to.shared) to.q = nullptr;
    dim3 grid(rows, cache->kv_heads * few.parts, places);
    Tail tail = tail_of(device, places > 1 ? MERGING_BLOCKS : 0);
    failed = launch(device, "attention", decode_kernel<TYPE, WHOLE>, grid, THREADS, sizeof(Decode<TYPE, WHOLE>), to, partials->data,
                    qkv->x, *cache, *batch, few, chunks, tail);
    return failed || to.q == y->q ? failed : quantize(device, y);
  }
  Group many = group_of(*cache, TILE);
  int together = TILE / many.heads;
  dim3 grid(ceil_div(rows, together), cache->kv_heads * many.parts, ceil_div(dim, WIDTH));
  failed = launch(device, "attention of tiles", tile_kernel<TYPE, WHOLE>, grid, TILE_WARPS * WARP, sizeof(Tile<TYPE, WHOLE>), y->x, qkv->x,
                  *cache, *batch, many, together, rows);
  return failed || !y->q ? failed : quantize(device, y);
}

template <int TYPE>
int launch_type(Device *device, const Rows *y, const Rows *qkv, const Cache *cache, const Batch *batch, const Partials *partials) {
  return (is_whole(cache->dim) ? launch_attention<TYPE, true> : launch_attention<TYPE, false>)(device, y, qkv, cache, batch, partials);
}

}  // namespace

int attention(Device *device, const Rows *y, const Rows *qkv, const Cache *cache, const Batch *batch,
              const Partials *partials) {
  if (qkv->rows == 0) return OK;
  if (cache->dim % 2 || cache->dim > MAX_HEAD) return refuse("attention: columns of a head are odd or too many");
  if (cache->q_heads % cache->kv_heads) return refuse("attention: query heads are not whole groups");
  int heads = cache->q_heads + 2 * cache->kv_heads;
  if (qkv->cols != heads * cache->dim) return refuse("attention: rows are not queries, keys and values");
  if (y->cols != cache->q_heads * cache->dim) return refuse("attention: outputs are not query heads");
  switch (cache->type) {
    case CACHE_F32: return launch_type<CACHE_F32>(device, y, qkv, cache, batch, partials);
    case CACHE_F16: return launch_type<CACHE_F16>(device, y, qkv, cache, batch, partials);
    case CACHE_Q8_0: return launch_type<CACHE_Q8_0>(device, y, qkv, cache, batch, partials);
  }
  return refuse("attention: unknown type of cache");
}

}  // namespace CODER_NAMESPACE
