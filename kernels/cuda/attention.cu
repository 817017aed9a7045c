// Causal attention over the paged cache, with several query heads to each key and value head.
//
// Few rows: flash decoding (Dao et al., 2023): every chunk of every row's context is a block of threads, in long contexts every
// stretch of chunks, and the last blocks to finish merge what all leave in `Partials`. A stretch's leave a quarter of what
// chunks would: less than 3 % of the keys and values that were read. Many rows, or more results than there are places: a block
// takes the rows of a tile through the chunks of their context, so that keys and values are read once for all of them.
// softmax.cuh has the arithmetic of both.
#include "rounding.cuh"
#include "softmax.cuh"

namespace CODER_NAMESPACE {
namespace {

constexpr int THREADS = ATTENTION_CHUNK;
constexpr int WIDTH = 4 * WARP;   // columns of values that a warp takes at a time, four to a lane
constexpr int DECODED = 8;        // query heads of a block that decodes a chunk
constexpr int TILE = 32;          // queries (rows times heads) of a block that takes tiles of rows
constexpr int TILED_ROWS = 64;    // more rows than these fill a card as tiles
constexpr int STRETCHED = STRETCH * ATTENTION_CHUNK;  // positions of a stretch
constexpr int MERGING_BLOCKS = 32;

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

// Where a block leaves its result: `a` [heads, stride], maximum and sum behind each head's columns; or, if `alone`, y.
struct Out {
  float *a;
  int stride;
  bool alone;
};

// Of a block that takes CHUNKS chunks at once, each with a warp a piece, for as many fewer heads.
template <int CHUNKS>
struct Decode {
  static constexpr int HEADS = DECODED / CHUNKS, MIXED = HEADS / 2;
  float q[HEADS * MAX_HEAD];
  Softmax<HEADS> softmax[CHUNKS];
  float weights[CHUNKS * ATTENTION_CHUNK][HEADS];
  float mix[CHUNKS * PIECES][MIXED][WIDTH];
  Out out;
};

// Rounds four columns a lane, from c on of a head of y whose first column is `first`, if y is to be rounded.
__device__ inline void round_head(const Rows &y, size_t row, int first, int c, int dim, const float (&v)[4]) {
  if (y.q) round_columns(y, row, first + c, v, c < dim);
}

// Rounds heads of y that the block has written, if y is to be rounded.
__device__ inline void round_heads(const Rows &y, int row, int head, int heads, int dim) {
  if (!y.q) return;
  sync_block();
  round_written(y, row, head * dim, (head + heads) * dim, threadIdx.x / WARP, blockDim.x / WARP);
}

// Adds the pieces' sums of WIDTH columns from c0 on, of MIXED heads from h0 on, which lie in s.mix, and merges the chunks; the
// row's first of the block's heads is number `head`. Of a chunk a warp has a head, a lane four columns, and rounds them; of a
// stretch a thread has one, and no registers left to round it.
template <int CHUNKS>
__device__ inline void add_pieces(const Decode<CHUNKS> &s, const Rows &y, int row, int head, int h0, int heads, int c0, int dim, int visible) {
  constexpr int EACH = CHUNKS == 1 ? 4 : 1;
  const Out &out = s.out;
  for (int e = EACH * threadIdx.x; e < min(Decode<CHUNKS>::MIXED, heads - h0) * WIDTH; e += EACH * CHUNKS * THREADS) {
    int j = e / WIDTH, c = e % WIDTH;
    float a[EACH] = {}, peak = 0.0f, sum = 0.0f;
#pragma unroll 1
    for (int k = 0; k < CHUNKS && k * ATTENTION_CHUNK < visible; k++) {
      float next[EACH], next_peak, next_sum;
#pragma unroll
      for (int n = 0; n < EACH; n++) next[n] = s.mix[k * PIECES][j][c + n];
      for (int w = 1; w < min(ceil_div(visible, BLOCK) - k * PIECES, PIECES); w++) {
#pragma unroll
        for (int n = 0; n < EACH; n++) next[n] += s.mix[k * PIECES + w][j][c + n];
      }
      total(s.softmax[k], h0 + j, next_peak, next_sum);
      Merge m = merge(k == 0 ? next_peak : peak, next_peak);
#pragma unroll
      for (int n = 0; n < EACH; n++) a[n] = k == 0 ? next[n] : merged(m, a[n], next[n]);
      sum = k == 0 ? next_sum : merged(m, sum, next_sum);
      peak = m.peak;
    }
    float *to = out.a + size_t(h0 + j) * out.stride + c0;
#pragma unroll
    for (int n = 0; n < EACH; n++) {
      if (out.alone) a[n] /= sum;
      if (c0 + c + n < dim) to[c + n] = a[n];
    }
    if constexpr (CHUNKS == 1) {
      if (out.alone) round_head(y, row, (head + h0 + j) * dim, c0 + c, dim, a);
    }
    if (!out.alone && c0 + c == 0) to[dim] = peak, to[dim + 1] = sum;
  }
}

// The weighted values of chunks of which `visible` positions are seen. A warp takes a piece, a lane four columns;
// `block` is the warp's block of the cache. Weights lie in shared memory.
template <int TYPE, int CHUNKS>
__device__ inline void mix_chunks(Decode<CHUNKS> &s, const Side &values, const Rows &y, int row, int head, int kv_heads, int kv_head, int block,
                                  int heads, int visible) {
  constexpr int HEADS = Decode<CHUNKS>::HEADS, MIXED = Decode<CHUNKS>::MIXED;
  constexpr int AHEAD = CHUNKS == 1 ? 8 : 4;  // positions whose loads are under way together
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  int here = min(visible - warp * BLOCK, BLOCK);
  for (int c0 = 0; c0 < values.dim; c0 += WIDTH) {
    int c = c0 + 4 * lane;
    float a[HEADS][4] = {};
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
        for (int j = 0; j < HEADS; j++) {
#pragma unroll
          for (int n = 0; n < 4; n++) a[j][n] = fmaf(w[j], v[i][n], a[j][n]);
        }
      }
    }
#pragma unroll
    for (int h0 = 0; h0 < HEADS; h0 += MIXED) {
      if (h0 >= heads) continue;
      sync_block();
#pragma unroll
      for (int j = 0; j < MIXED; j++) {
        if (here <= 0) continue;
        float4 v = make_float4(a[h0 + j][0], a[h0 + j][1], a[h0 + j][2], a[h0 + j][3]);
        *reinterpret_cast<float4 *>(&s.mix[warp][j][4 * lane]) = v;
      }
      sync_block();
      add_pieces<CHUNKS>(s, y, row, head, h0, heads, c0, values.dim, visible);
    }
  }
}

// Results that a row's blocks leave: of chunks, or of stretches; none but y if it is one.
template <int CHUNKS>
__device__ inline int results(const Batch &batch, int row) {
  return batch.table_at[row] < 0 ? 0 : batch.positions[row] / (CHUNKS * ATTENTION_CHUNK) + 1;
}

// This block's chunks of a row, for the heads of a group.
template <int TYPE, int CHUNKS>
__device__ inline void decode(const Rows &y, float *partials, const float *qkv, const Cache &cache, const Batch &batch, const Group &group) {
  using S = Decode<CHUNKS>;
  S &s = shared<S>();
  constexpr int HEADS = S::HEADS;
  int row = blockIdx.x, dim = cache.dim, first = blockIdx.z * CHUNKS * ATTENTION_CHUNK;
  int kv_head = blockIdx.y / group.parts, part = blockIdx.y % group.parts;
  int heads = min(group.heads, group.size - part * group.heads), head = kv_head * group.size + part * group.heads;
  int table = batch.table_at[row], seen = batch.positions[row] + 1;
  size_t at = (size_t(row) * cache.q_heads + head) * dim, place = size_t(row) * gridDim.z + blockIdx.z;
  Out out = {y.x + at, dim, results<CHUNKS>(batch, row) <= 1};
  if (!out.alone) out = {partials + (place * cache.q_heads + head) * (dim + 2), dim + 2, false};
  if (table < 0) {
    if (blockIdx.z > 0) return;
    for (int c = threadIdx.x; c < heads * dim; c += CHUNKS * THREADS) y.x[at + c] = 0.0f;
    round_heads(y, row, head, heads, dim);
    return;
  }
  if (first >= seen) return;
  if (threadIdx.x == 0) s.out = out;
  const float *q = qkv + (size_t(row) * (cache.q_heads + 2 * cache.kv_heads) + head) * dim;
  int stride = padded(dim);
  for (int i = threadIdx.x; i < heads * stride; i += CHUNKS * THREADS) s.q[i] = scaled(q + i / stride * dim, i % stride, dim);
  if (threadIdx.x < CHUNKS * HEADS) s.softmax[threadIdx.x / HEADS].seen[threadIdx.x % HEADS] = seen;
  int visible = seen - first, warp = threadIdx.x / WARP;
  int block = warp * BLOCK < visible ? batch.tables[table + first / BLOCK + warp] : 0;
  sync_block();
  float w[HEADS] = {};
  if (int(threadIdx.x) < visible) {
    size_t slot = size_t(block) * BLOCK + threadIdx.x % WARP;
    score<TYPE>(w, s.q, heads, Side{cache.k, cache.k_scale, dim}, slot * cache.kv_heads + kv_head);
  }
  weigh(w, s.softmax[threadIdx.x / THREADS], heads, first + int(threadIdx.x));
#pragma unroll
  for (int j = 0; j < HEADS; j++) s.weights[threadIdx.x][j] = w[j];
  sync_block();
  mix_chunks<TYPE, CHUNKS>(s, Side{cache.v, cache.v_scale, dim}, y, row, head, cache.kv_heads, kv_head, block, heads, visible);
  if (CHUNKS > 1 && out.alone) round_heads(y, row, head, heads, dim);
}

// y = A / L of the rows that left several results, in ascending order. A warp has a head, a lane four columns at a time.
template <int CHUNKS>
__device__ inline void merge_results(const Rows &y, const float *partials, const Batch &batch, int heads, int dim, const Share &share) {
  constexpr int TOGETHER = CHUNKS * PIECES;
  for (int unit = share.index * TOGETHER + threadIdx.x / WARP; unit < int(gridDim.x) * heads; unit += share.of * TOGETHER) {
    int row = unit / heads, head = unit % heads, count = results<CHUNKS>(batch, row);
    if (count <= 1) continue;
    size_t stride = size_t(heads) * (dim + 2);
    const float *from = partials + (size_t(row) * gridDim.z * heads + head) * (dim + 2);
    for (int c0 = 0; c0 < dim; c0 += WIDTH) {
      int c = c0 + 4 * int(threadIdx.x % WARP);
      float a[4] = {}, peak = from[dim], sum = from[dim + 1];
#pragma unroll
      for (int n = 0; n < 4; n++) a[n] = c + n < dim ? from[c + n] : 0.0f;
#pragma unroll 1
      for (int i = 1; i < count; i++) {
        const float *next = from + i * stride;
        Merge m = merge(peak, next[dim]);
        sum = merged(m, sum, next[dim + 1]);
#pragma unroll
        for (int n = 0; n < 4; n++) {
          if (c + n < dim) a[n] = merged(m, a[n], next[c + n]);
        }
        peak = m.peak;
      }
#pragma unroll
      for (int n = 0; n < 4; n++) {
        a[n] /= sum;
        if (c + n < dim) y.x[size_t(unit) * dim + c + n] = a[n];
      }
      round_head(y, row, head * dim, c, dim, a);
    }
  }
}

// Chunks of each row for the heads of a group: CHUNKS a block, 1 or STRETCH. Grid (row, key and value head · parts of its
// group, place in the context), a thread a position. qkv [rows, (q heads + 2 · kv heads) · dim], dim even and ≤ MAX_HEAD.
// Leaves the row's y [q heads, dim], or, where several blocks work on the row, a, m and l in partials [row · gridDim.z + place,
// q head, dim + 2], which the tail merges; padding gets 0. y is rounded too if it has y.q; what shares a scale is then of one
// head. Reads keys and values once, those of a stretch out of a cache for the parts of a group.
template <int TYPE, int CHUNKS>
__global__ void __launch_bounds__(CHUNKS *THREADS, CHUNKS == 1 ? 2 : 1)
decode_kernel(Rows y, float *partials, const float *qkv, Cache cache, Batch batch, Group group, Tail tail) {
  if (works(tail)) decode<TYPE, CHUNKS>(y, partials, qkv, cache, batch, group);
  Share share = finish(tail);
  if (share.index >= 0) merge_results<CHUNKS>(y, partials, batch, cache.q_heads, cache.dim, share);
}

// ---- many rows

struct Tile {
  float q[TILE * WIDTH];
  float values[BLOCK * WIDTH];
  float weights[BLOCK][TILE + 4];  // four more, so that a warp's lanes write to different banks
  Softmax<TILE> softmax;
  Merge merge[TILE];
  float sum[TILE];
  // Of the stretches before.
  Merge between[TILE];
  float before[TILE];
  // The block's first head of y's first row, and which head from there on is a query's.
  float *y;
  int head[TILE];
  const int32_t *table;  // the sequence's blocks
};

// A run of rows of one sequence, and the heads of one key and value head that they attend with. Query j is row
// j / heads, head j % heads.
struct Queries {
  int first_row, count, heads;
  int q_heads;            // of a row
  int kv_heads, kv_head;
  int most;               // positions that the row that sees most sees
};

// The four queries and the four columns of this thread.
struct Corner {
  int query, column;
};

// a[j][n] += Σ w[t][j] · v[t][n] over the positions t from `from` to `to` of the piece at position `at` that the query sees.
__device__ inline void mix_tile(float (&a)[4][4], const Tile &s, const Corner &corner, int at, int from, int to, int width) {
  int seen[4];
#pragma unroll
  for (int j = 0; j < 4; j++) seen[j] = s.softmax.seen[corner.query + j] - at;
  int least = min(min(seen[0], seen[1]), min(seen[2], seen[3])), most = max(max(seen[0], seen[1]), max(seen[2], seen[3]));
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
#pragma unroll 1
  for (int t = max(from, least); t < min(to, most); t++) {
    float4 v = *reinterpret_cast<const float4 *>(values + t * width);
    float vs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int j = 0; j < 4; j++) {
      if (t >= seen[j]) continue;
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
                                const Queries &queries, const Corner &corner, int width, int first) {
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, room = BLOCK * WIDTH / width;
  for (int piece = 0; piece < PIECES && first + piece * BLOCK < queries.most; piece++) {
    int at = first + piece * BLOCK, here = min(queries.most - at, BLOCK), block = s.table[at / BLOCK];
    sync_block();
    if (warp == piece) {
#pragma unroll
      for (int j = 0; j < TILE; j += 4) {
        *reinterpret_cast<float4 *>(&s.weights[lane][j]) = make_float4(w[j], w[j + 1], w[j + 2], w[j + 3]);
      }
    }
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
        mix_tile(sum, s, corner, at, from, min(from + room, here), width);
      }
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
#pragma unroll
      for (int n = 0; n < 4; n++) {
        if (s.softmax.seen[corner.query + j] > at) a[j][n] = piece == 0 ? sum[j][n] : a[j][n] + sum[j][n];
      }
    }
  }
}

// Merges a chunk's maxima and sums of this thread's query (if it is one) into s.merge and s.sum. Between two barriers.
__device__ inline void merge_sums(Tile &s, int count, int first) {
  int j = threadIdx.x;
  if (j >= count || first >= s.softmax.seen[j]) return;
  bool begins = first % STRETCHED == 0;
  float peak, sum;
  total(s.softmax, j, peak, sum);
  s.merge[j] = merge(begins ? peak : s.merge[j].peak, peak);
  s.sum[j] = begins ? sum : merged(s.merge[j], s.sum[j], sum);
}

// Merges the stretch from position `begin` on into those before: sums in s.before, and the values `total` of the thread's
// corner in y. All threads take part.
__device__ inline void merge_stretch(Tile &s, const float (&total)[4][4], const Corner &corner, int count,
                                     int dim, int begin) {
  int j = threadIdx.x;
  if (j < count && begin < s.softmax.seen[j]) {
    s.between[j] = merge(begin == 0 ? s.merge[j].peak : s.between[j].peak, s.merge[j].peak);
    s.before[j] = begin == 0 ? s.sum[j] : merged(s.between[j], s.before[j], s.sum[j]);
  }
  sync_block();
#pragma unroll
  for (int i = 0; i < 4; i++) {
    int query = corner.query + i;
    if (query >= count || begin >= s.softmax.seen[query]) continue;
    float *to = s.y + size_t(s.head[query]) * dim + corner.column;
#pragma unroll
    for (int n = 0; n < 4; n++) {
      if (corner.column + n >= dim) continue;
      to[n] = begin == 0 ? total[i][n] : merged(s.between[query], to[n], total[i][n]);
    }
  }
}

// Attention of a run of rows of one sequence, chunk by chunk. y and q begin at the block's first head of the first row.
template <int TYPE>
__device__ inline void attend(Tile &s, float *y, const float *q, const Cache &cache, const Queries &queries,
                              const Batch &batch) {
  int dim = cache.dim, stride = padded(dim), width = dim <= WIDTH ? WIDTH : 2 * WIDTH, warps = width / WIDTH;
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, cols = (queries.q_heads + 2 * queries.kv_heads) * dim;
  Corner corner = {warp / warps * 4, warp % warps * WIDTH + 4 * lane};
  for (int i = threadIdx.x; i < queries.count * stride; i += THREADS) {
    int j = i / stride;
    s.q[i] = scaled(q + size_t(j / queries.heads) * cols + j % queries.heads * dim, i % stride, dim);
  }
  if (threadIdx.x == 0) s.y = y, s.table = batch.tables + batch.table_at[queries.first_row];
  // Queries that are none see what the last one sees, so that they do not part those before them.
  if (threadIdx.x < TILE) {
    int query = min(int(threadIdx.x), queries.count - 1), row = query / queries.heads;
    s.softmax.seen[threadIdx.x] = batch.positions[queries.first_row + row] + 1;
    s.head[threadIdx.x] = row * queries.q_heads + query % queries.heads;
  }
  float total[4][4] = {};
  for (int first = 0; first < queries.most; first += ATTENTION_CHUNK) {
    sync_block();
    int position = first + threadIdx.x;
    float w[TILE] = {}, a[4][4] = {};
    if (position < queries.most) {
      size_t slot = size_t(s.table[position / BLOCK]) * BLOCK + position % BLOCK;
      Side keys = {cache.k, cache.k_scale, dim};
      score<TYPE>(w, s.q, queries.count, keys, slot * queries.kv_heads + queries.kv_head);
    }
    weigh(w, s.softmax, queries.count, position);
    mix_rows<TYPE>(a, w, s, Side{cache.v, cache.v_scale, dim}, queries, corner, width, first);
    merge_sums(s, queries.count, first);
    sync_block();
#pragma unroll
    for (int j = 0; j < 4; j++) {
      int query = corner.query + j;
      if (query >= queries.count || first >= s.softmax.seen[query]) continue;
#pragma unroll
      for (int n = 0; n < 4; n++) total[j][n] = first % STRETCHED == 0 ? a[j][n] : merged(s.merge[query], total[j][n], a[j][n]);
    }
    int end = first + ATTENTION_CHUNK;
    if (end % STRETCHED == 0 || end >= queries.most) {
      merge_stretch(s, total, corner, queries.count, dim, first / STRETCHED * STRETCHED);
    }
  }
#pragma unroll
  for (int j = 0; j < 4; j++) {
    int query = corner.query + j;
    if (query >= queries.count) continue;
    float *to = s.y + size_t(s.head[query]) * dim + corner.column;
#pragma unroll
    for (int n = 0; n < 4; n++) {
      if (corner.column + n < dim) to[n] /= s.before[query];
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

template <int TYPE, int CHUNKS>
int launch_decode(Device *device, const Rows &y, const Rows *qkv, const Cache *cache, const Batch *batch, const Partials *partials) {
  Group few = group_of(*cache, Decode<CHUNKS>::HEADS);
  int places = ceil_div(batch->chunks, CHUNKS);
  dim3 grid(qkv->rows, cache->kv_heads * few.parts, places);
  Tail tail = tail_of(device, places > 1 ? MERGING_BLOCKS : 0);
  return launch(device, "attention", decode_kernel<TYPE, CHUNKS>, grid, CHUNKS * THREADS, sizeof(Decode<CHUNKS>), y, partials->data,
                qkv->x, *cache, *batch, few, tail);
}

template <int TYPE>
int launch_attention(Device *device, const Rows *y, const Rows *qkv, const Cache *cache, const Batch *batch,
                     const Partials *partials) {
  int rows = qkv->rows, dim = cache->dim, failed;
  bool stretches = batch->chunks > STRETCH;
  int places = stretches ? ceil_div(batch->chunks, STRETCH) : batch->chunks;
  if (rows <= TILED_ROWS && size_t(rows) * places <= size_t(partials->places)) {
    Rows to = *y;
    if (!rounds(to) || dim % to.shared) to.q = nullptr;
    failed = (stretches ? launch_decode<TYPE, STRETCH> : launch_decode<TYPE, 1>)(device, to, qkv, cache, batch, partials);
    return failed || to.q == y->q ? failed : quantize(device, y);
  }
  int room = dim <= WIDTH ? TILE : TILE / 2;
  Group many = group_of(*cache, room);
  int together = room / many.heads;
  dim3 grid(ceil_div(rows, together), cache->kv_heads * many.parts);
  failed = launch(device, "attention of tiles", tile_kernel<TYPE>, grid, THREADS, sizeof(Tile), y->x, qkv->x, *cache, *batch, many,
                  together, rows);
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
