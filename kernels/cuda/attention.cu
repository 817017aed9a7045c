// Causal attention over the paged cache, with several query heads to each key and value head.
//
// Few rows: flash decoding (Dao et al., 2023): every chunk of every row's context is a block of threads, and a second
// kernel merges what they leave in `Partials`. Many rows, or more chunks than there are places: a block takes the rows
// of a tile through the chunks of their context, so that keys and values are read once for all of them. softmax.cuh has
// the arithmetic of both.
#include "rounding.cuh"
#include "softmax.cuh"

namespace CODER_NAMESPACE {
namespace {

constexpr int THREADS = ATTENTION_CHUNK;
constexpr int WIDTH = 4 * WARP;   // columns of values that a warp takes at a time, four to a lane
constexpr int DECODED = 8;        // query heads of a block that decodes
constexpr int TILE = 32;          // queries (rows times heads) of a block that takes tiles of rows
constexpr int TILED_ROWS = 64;    // more rows than these fill a card as tiles
constexpr int MERGED = 128;       // chunks that are merged at a time

// The query heads of one key and value head that a block takes: all of its group, or equal parts of a larger one.
struct Group {
  int size;   // heads of the whole group
  int parts;
  int heads;  // of each part; the last may have fewer
};

Group group_of(const Cache &cache, int most) {
  int size = cache.q_heads / cache.kv_heads, parts = ceil_div(size, most);
  return {size, parts, ceil_div(size, parts)};
}

// ---- few rows

struct Decode {
  float q[DECODED * MAX_HEAD];
  Softmax<DECODED> softmax;
  float weights[ATTENTION_CHUNK][DECODED];
  float mix[PIECES][DECODED / 2][WIDTH];
};

// Where a block leaves its chunk: `a` [heads, stride], maximum and sum behind each head's columns; or, if `last`, y, whose
// element `at` its first is, and y's rounding.
struct Out {
  float *a;
  int stride;
  bool last;
  size_t at;
};

// Adds the pieces' sums of WIDTH columns from c0 on, of half of the block's heads from h0 on; they lie in s.mix.
__device__ inline void add_pieces(const Decode &s, const Out &out, const Rows &y, int h0, int heads, int c0, int dim, int pieces) {
  for (int e = threadIdx.x; e < DECODED / 2 * WIDTH; e += THREADS) {
    int j = e / WIDTH, c = e % WIDTH;
    if (h0 + j >= heads || c0 + c >= dim) continue;
    float a = s.mix[0][j][c];
    for (int w = 1; w < pieces; w++) a += s.mix[w][j][c];
    float peak, sum;
    total(s.softmax, h0 + j, peak, sum);
    float *to = out.a + size_t(h0 + j) * out.stride;
    float result = out.last ? a / sum : a;
    to[c0 + c] = result;
    if (out.last && y.q) round_columns<1>(y, out.at + (h0 + j) * out.stride + c0 + c, {result}, true);
    if (!out.last && c0 + c == 0) to[dim] = peak, to[dim + 1] = sum;
  }
}

// The weighted values of a chunk of which `visible` positions are seen. A warp takes a piece, a lane four columns;
// `block` is the warp's block of the cache. Weights lie in shared memory.
template <int TYPE>
__device__ inline void mix_chunk(Decode &s, const Side &values, const Out &out, const Rows &y, int kv_heads, int kv_head,
                                 int block, int heads, int visible) {
  constexpr int AHEAD = 8;  // positions whose loads are under way together
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  int here = visible - warp * BLOCK, pieces = min(ceil_div(visible, BLOCK), PIECES);
  here = min(here, BLOCK);
  for (int c0 = 0; c0 < values.dim; c0 += WIDTH) {
    int c = c0 + 4 * lane;
    float a[DECODED][4] = {};
    for (int t0 = 0; t0 < here && c < values.dim; t0 += AHEAD) {
      float v[AHEAD][4];
#pragma unroll
      for (int i = 0; i < AHEAD; i++) {
        if (t0 + i < here) load<TYPE>(v[i], values, (size_t(block) * BLOCK + t0 + i) * kv_heads + kv_head, c);
      }
#pragma unroll
      for (int i = 0; i < AHEAD; i++) {
        if (t0 + i >= here) continue;
        const float *w = s.weights[warp * BLOCK + t0 + i];
#pragma unroll
        for (int j = 0; j < DECODED; j++) {
#pragma unroll
          for (int n = 0; n < 4; n++) a[j][n] = fmaf(w[j], v[i][n], a[j][n]);
        }
      }
    }
#pragma unroll
    for (int h0 = 0; h0 < DECODED; h0 += DECODED / 2) {
      if (h0 >= heads) continue;
      sync_block();
#pragma unroll
      for (int j = 0; j < DECODED / 2; j++) {
        if (here <= 0) continue;
        float4 v = make_float4(a[h0 + j][0], a[h0 + j][1], a[h0 + j][2], a[h0 + j][3]);
        *reinterpret_cast<float4 *>(&s.mix[warp][j][4 * lane]) = v;
      }
      sync_block();
      add_pieces(s, out, y, h0, heads, c0, values.dim, pieces);
    }
  }
}

// One chunk of one row for the heads of a group. Grid (row, key and value head · parts of its group, chunk), a thread a
// position. qkv [rows, (q heads + 2 · kv heads) · dim], dim even and ≤ MAX_HEAD; leaves a, m and l in partials
// [row · chunks + chunk, q head, dim + 2], or the row's y [q heads, dim] if `chunks` is 1; then padding gets 0. y is rounded
// too if it has y.q; heads are then whole runs, so that the lanes of a warp stay together. Blocks of chunks that the row does
// not reach return at once. Reads the chunk's keys and values once.
template <int TYPE>
__global__ void __launch_bounds__(THREADS, 2)
decode_kernel(Rows y, float *partials, const float *qkv, Cache cache, Batch batch, Group group) {
  Decode &s = shared<Decode>();
  int row = blockIdx.x, chunk = blockIdx.z, dim = cache.dim, first = chunk * ATTENTION_CHUNK;
  int kv_head = blockIdx.y / group.parts, part = blockIdx.y % group.parts;
  int heads = min(group.heads, group.size - part * group.heads), head = kv_head * group.size + part * group.heads;
  bool last = batch.chunks == 1;
  size_t at = (size_t(row) * cache.q_heads + head) * dim;
  Out out = {y.x + at, dim, last, at};
  size_t place = size_t(row) * batch.chunks + chunk;
  if (!last) out = {partials + (place * cache.q_heads + head) * (dim + 2), dim + 2, last, 0};
  int table = batch.table_at[row], seen = batch.positions[row] + 1;
  if (table < 0) {
    for (int c = threadIdx.x; last && c < heads * dim; c += THREADS) {
      out.a[c] = 0.0f;
      if (y.q) round_columns<1>(y, at + c, {0.0f}, true);
    }
    return;
  }
  if (first >= seen) return;
  const float *q = qkv + (size_t(row) * (cache.q_heads + 2 * cache.kv_heads) + head) * dim;
  int stride = padded(dim);
  for (int i = threadIdx.x; i < heads * stride; i += THREADS) s.q[i] = scaled(q + i / stride * dim, i % stride, dim);
  if (threadIdx.x < DECODED) s.softmax.seen[threadIdx.x] = seen;
  int visible = seen - first, warp = threadIdx.x / WARP;
  int block = warp * BLOCK < visible ? batch.tables[table + first / BLOCK + warp] : 0;
  sync_block();
  float w[DECODED] = {};
  if (int(threadIdx.x) < visible) {
    size_t slot = size_t(block) * BLOCK + threadIdx.x % WARP;
    score<TYPE>(w, s.q, heads, Side{cache.k, cache.k_scale, dim}, slot * cache.kv_heads + kv_head);
  }
  weigh(w, s.softmax, heads, first);
#pragma unroll
  for (int j = 0; j < DECODED; j++) s.weights[threadIdx.x][j] = w[j];
  sync_block();
  mix_chunk<TYPE>(s, Side{cache.v, cache.v_scale, dim}, out, y, cache.kv_heads, kv_head, block, heads, visible);
}

struct Chunks {
  float sum[MERGED];
  Merge merge[MERGED];
};

// y = A / L from the chunks of `partials` [row · chunks + chunk, q head, dim + 2], in ascending order; 0 for padding.
// Grid (row, q head), a thread a chunk for the scales and then two columns. Reads what the decoding kernel wrote,
// writes y [rows, q heads · dim], and rounds it as that does.
__global__ void __launch_bounds__(MERGED) merge_kernel(Rows y, const float *partials, Batch batch, int dim) {
  Chunks &s = shared<Chunks>();
  int row = blockIdx.x, head = blockIdx.y, heads = gridDim.y, thread = threadIdx.x;
  size_t at = (size_t(row) * heads + head) * dim, stride = size_t(heads) * (dim + 2);
  const float *from = partials + (size_t(row) * batch.chunks * heads + head) * (dim + 2);
  int count = batch.table_at[row] < 0 ? 0 : min(batch.positions[row] / ATTENTION_CHUNK + 1, batch.chunks);
  float peak = as_float(0xff800000u), sum = 0.0f, a[MAX_HEAD / MERGED] = {};
  for (int first = 0; first < count; first += MERGED) {
    int here = min(count - first, MERGED);
    sync_block();
    if (thread < here) {
      s.merge[thread].peak = from[(first + thread) * stride + dim];
      s.sum[thread] = from[(first + thread) * stride + dim + 1];
    }
    sync_block();
    float before = peak;
    for (int i = 0; i < here; i++) {
      if (i == thread) before = peak;
      peak = fmaxf(peak, s.merge[i].peak);
    }
    Merge mine = merge(before, thread < here ? s.merge[thread].peak : before);
    sync_block();
    if (thread < here) s.merge[thread] = mine;
    sync_block();
    for (int i = 0; i < here; i++) {
      bool begin = first + i == 0;
      sum = begin ? s.sum[i] : merged(s.merge[i], sum, s.sum[i]);
#pragma unroll
      for (int n = 0; n < MAX_HEAD / MERGED; n++) {
        int c = thread + n * MERGED;
        if (c >= dim) continue;
        float next = from[(first + i) * stride + c];
        a[n] = begin ? next : merged(s.merge[i], a[n], next);
      }
    }
  }
#pragma unroll
  for (int n = 0; n < MAX_HEAD / MERGED; n++) {
    int c = thread + n * MERGED;
    if (c >= dim) continue;
    float result = count > 0 ? a[n] / sum : 0.0f;
    y.x[at + c] = result;
    if (y.q) round_columns<1>(y, at + c, {result}, true);
  }
}

// ---- many rows

struct Tile {
  float q[TILE * WIDTH];
  float values[BLOCK * WIDTH];
  float weights[BLOCK][TILE + 4];  // four more, so that a warp's lanes write to different banks
  Softmax<TILE> softmax;
  Merge merge[TILE];
  float sum[TILE];
};

// A run of rows of one sequence, and the heads of one key and value head that they attend with. Query j is row
// j / heads, head j % heads.
struct Queries {
  int first_row, count, heads;
  int q_heads;            // of a row
  int kv_heads, kv_head;
  int most;               // positions that the row that sees most sees
};

// The four queries and the four columns of this thread, and how many positions of a piece each of the queries sees.
struct Corner {
  int query, column;
  int seen[4];
};

// a[j][n] += Σ w[t][j] · v[t][n] over the positions t from `from` to `to` of a piece that the query sees.
__device__ inline void mix_tile(float (&a)[4][4], const Tile &s, const Corner &corner, int from, int to, int width) {
  int least = min(min(corner.seen[0], corner.seen[1]), min(corner.seen[2], corner.seen[3]));
  int most = max(max(corner.seen[0], corner.seen[1]), max(corner.seen[2], corner.seen[3]));
  const float *values = s.values + corner.column - from * width;
#pragma unroll 2
  for (int t = from; t < min(to, least); t++) {
    float4 w = *reinterpret_cast<const float4 *>(&s.weights[t][corner.query]);
    float4 v = *reinterpret_cast<const float4 *>(values + t * width);
    float ws[4] = {w.x, w.y, w.z, w.w}, vs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int j = 0; j < 4; j++) {
#pragma unroll
      for (int n = 0; n < 4; n++) a[j][n] = fmaf(ws[j], vs[n], a[j][n]);
    }
  }
  for (int t = max(from, least); t < min(to, most); t++) {
    float4 v = *reinterpret_cast<const float4 *>(values + t * width);
    float vs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int j = 0; j < 4; j++) {
      if (t >= corner.seen[j]) continue;
      float w = s.weights[t][corner.query + j];
#pragma unroll
      for (int n = 0; n < 4; n++) a[j][n] = fmaf(w, vs[n], a[j][n]);
    }
  }
}

// The weighted values of the chunk at position `first`, in a. w are the weights of this thread's position. `width`
// columns of values lie in shared memory at a time, of as many positions as there is room for.
template <int TYPE>
__device__ inline void mix_rows(float (&a)[4][4], const float (&w)[TILE], Tile &s, const Side &values,
                                const Queries &queries, const int32_t *table, Corner corner, int width, int first) {
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, room = BLOCK * WIDTH / width;
  for (int piece = 0; piece < PIECES && first + piece * BLOCK < queries.most; piece++) {
    int at = first + piece * BLOCK, here = min(queries.most - at, BLOCK), block = table[at / BLOCK];
    sync_block();
    if (warp == piece) {
#pragma unroll
      for (int j = 0; j < TILE; j += 4) {
        *reinterpret_cast<float4 *>(&s.weights[lane][j]) = make_float4(w[j], w[j + 1], w[j + 2], w[j + 3]);
      }
    }
#pragma unroll
    for (int j = 0; j < 4; j++) corner.seen[j] = s.softmax.seen[corner.query + j] - at;
    float sum[4][4] = {};
    for (int from = 0; from < here; from += room) {
      if (from > 0) sync_block();
#pragma unroll
      for (int e = threadIdx.x; e < BLOCK * WIDTH / 4; e += THREADS) {
        int t = from + 4 * e / width, c = 4 * e % width;
        if (t >= here || c >= values.dim) continue;
        float v[4];
        load<TYPE>(v, values, (size_t(block) * BLOCK + t) * queries.kv_heads + queries.kv_head, c);
        *reinterpret_cast<float4 *>(&s.values[4 * e]) = make_float4(v[0], v[1], v[2], v[3]);
      }
      sync_block();
      if (corner.query < queries.count && corner.column < values.dim) {
        mix_tile(sum, s, corner, from, min(from + room, here), width);
      }
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
#pragma unroll
      for (int n = 0; n < 4; n++) {
        if (corner.seen[j] > 0) a[j][n] = piece == 0 ? sum[j][n] : a[j][n] + sum[j][n];
      }
    }
  }
}

// Merges a chunk's maxima and sums of this thread's query (if it is one) into s.merge and s.sum. Between two barriers.
__device__ inline void merge_sums(Tile &s, int count, int first) {
  int j = threadIdx.x;
  if (j >= count || first >= s.softmax.seen[j]) return;
  float peak, sum;
  total(s.softmax, j, peak, sum);
  s.merge[j] = merge(first == 0 ? peak : s.merge[j].peak, peak);
  s.sum[j] = first == 0 ? sum : merged(s.merge[j], s.sum[j], sum);
}

// Attention of a run of rows of one sequence, chunk by chunk. y and q begin at the block's first head of the first row.
template <int TYPE>
__device__ inline void attend(Tile &s, float *y, const float *q, const Cache &cache, const Queries &queries,
                              const Batch &batch) {
  int dim = cache.dim, stride = padded(dim), width = dim <= WIDTH ? WIDTH : 2 * WIDTH, warps = width / WIDTH;
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, cols = (queries.q_heads + 2 * queries.kv_heads) * dim;
  const int32_t *table = batch.tables + batch.table_at[queries.first_row];
  Corner corner = {warp / warps * 4, warp % warps * WIDTH + 4 * lane, {}};
  for (int i = threadIdx.x; i < queries.count * stride; i += THREADS) {
    int j = i / stride;
    s.q[i] = scaled(q + size_t(j / queries.heads) * cols + j % queries.heads * dim, i % stride, dim);
  }
  // Queries that are none see what the last one sees, so that they do not part those before them.
  if (threadIdx.x < TILE) {
    int row = queries.first_row + min(int(threadIdx.x), queries.count - 1) / queries.heads;
    s.softmax.seen[threadIdx.x] = batch.positions[row] + 1;
  }
  float total[4][4] = {};
  for (int first = 0; first < queries.most; first += ATTENTION_CHUNK) {
    sync_block();
    int position = first + threadIdx.x;
    float w[TILE] = {}, a[4][4] = {};
    if (position < queries.most) {
      size_t slot = size_t(table[position / BLOCK]) * BLOCK + position % BLOCK;
      Side keys = {cache.k, cache.k_scale, dim};
      score<TYPE>(w, s.q, queries.count, keys, slot * queries.kv_heads + queries.kv_head);
    }
    weigh(w, s.softmax, queries.count, first);
    mix_rows<TYPE>(a, w, s, Side{cache.v, cache.v_scale, dim}, queries, table, corner, width, first);
    merge_sums(s, queries.count, first);
    sync_block();
#pragma unroll
    for (int j = 0; j < 4; j++) {
      int query = corner.query + j;
      if (query >= queries.count || first >= s.softmax.seen[query]) continue;
#pragma unroll
      for (int n = 0; n < 4; n++) total[j][n] = first == 0 ? a[j][n] : merged(s.merge[query], total[j][n], a[j][n]);
    }
  }
#pragma unroll
  for (int j = 0; j < 4; j++) {
    int query = corner.query + j;
    if (query >= queries.count) continue;
    size_t at = size_t(query / queries.heads) * queries.q_heads + query % queries.heads;
    float *to = y + at * dim + corner.column;
#pragma unroll
    for (int n = 0; n < 4; n++) {
      if (corner.column + n < dim) to[n] = total[j][n] / s.sum[query];
    }
  }
}

// All chunks of the rows of a tile, for the heads of a group. Grid (tile of `rows` of `all` rows, key and value head ·
// parts of its group), a thread a position. Runs of rows of one sequence go together, one after the other; padding gets
// 0. qkv and y as above. Reads the keys and values of each run's context once.
template <int TYPE>
__global__ void __launch_bounds__(THREADS, 2)
tile_kernel(float *y, const float *qkv, Cache cache, Batch batch, Group group, int rows, int all) {
  Tile &s = shared<Tile>();
  // The last rows of a prompt see most: they come first, so that none is waited for at the end.
  int begin = (gridDim.x - 1 - blockIdx.x) * rows, end = min(begin + rows, all);
  int kv_head = blockIdx.y / group.parts, part = blockIdx.y % group.parts;
  int heads = min(group.heads, group.size - part * group.heads), head = kv_head * group.size + part * group.heads;
  for (int row = begin, next; row < end; row = next) {
    int table = batch.table_at[row], most = 0;
    for (next = row; next < end && batch.table_at[next] == table; next++) most = max(most, batch.positions[next] + 1);
    float *to = y + (size_t(row) * cache.q_heads + head) * cache.dim;
    if (table < 0) {
      int cols = heads * cache.dim;
      for (int i = threadIdx.x; i < (next - row) * cols; i += THREADS) {
        to[size_t(i / cols) * cache.q_heads * cache.dim + i % cols] = 0.0f;
      }
      continue;
    }
    const float *q = qkv + (size_t(row) * (cache.q_heads + 2 * cache.kv_heads) + head) * cache.dim;
    Queries queries = {row, (next - row) * heads, heads, cache.q_heads, cache.kv_heads, kv_head, most};
    attend<TYPE>(s, to, q, cache, queries, batch);
    sync_block();
  }
}

template <int TYPE>
int launch_attention(Device *device, const Rows *y, const Rows *qkv, const Cache *cache, const Batch *batch,
                     const Partials *partials) {
  int rows = qkv->rows, dim = cache->dim;
  if (rows <= TILED_ROWS && size_t(rows) * batch->chunks <= size_t(partials->places)) {
    Group few = group_of(*cache, DECODED);
    dim3 grid(rows, cache->kv_heads * few.parts, batch->chunks);
    Rows to = *y;
    bool later = y->q && dim % ROUNDED;
    if (later) to.q = nullptr;
    int failed = launch(device, "attention", decode_kernel<TYPE>, grid, THREADS, sizeof(Decode), to, partials->data,
                        qkv->x, *cache, *batch, few);
    if (!failed && batch->chunks > 1) {
      failed = launch(device, "attention merge", merge_kernel, dim3(rows, cache->q_heads), MERGED, sizeof(Chunks), to,
                      partials->data, *batch, dim);
    }
    return failed || !later ? failed : quantize(device, y);
  }
  int room = dim <= WIDTH ? TILE : TILE / 2;
  Group many = group_of(*cache, room);
  int together = room / many.heads;
  dim3 grid(ceil_div(rows, together), cache->kv_heads * many.parts);
  int failed = launch(device, "attention of tiles", tile_kernel<TYPE>, grid, THREADS, sizeof(Tile), y->x, qkv->x, *cache,
                      *batch, many, together, rows);
  return failed || !y->q ? failed : quantize(device, y);
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
    case CACHE_F32: return launch_attention<CACHE_F32>(device, y, qkv, cache, batch, partials);
    case CACHE_F16: return launch_attention<CACHE_F16>(device, y, qkv, cache, batch, partials);
    case CACHE_Q8_0: return launch_attention<CACHE_Q8_0>(device, y, qkv, cache, batch, partials);
  }
  return refuse("attention: unknown type of cache");
}

}  // namespace CODER_NAMESPACE
