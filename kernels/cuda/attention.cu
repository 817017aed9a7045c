// Causal attention over the paged cache, with several query heads to each key and value head.
//
// Few rows: flash decoding (Dao et al., 2023): every chunk of every row's context is a block of threads, or every stretch of
// chunks where these are blocks enough, and the last blocks to finish merge what all leave in `Partials`. That is written and read
// again out of a cache: of stretches less than 3 % of the keys and values, of chunks four times that. Many rows, or more results
// than there are places: every warp takes some queries through all of their context, so that a block's keys and values come from
// memory once. softmax.cuh has the arithmetic of both.
#include "rounding.cuh"
#include "softmax.cuh"

namespace CODER_NAMESPACE {
namespace {

constexpr int THREADS = PIECES * WARP;  // of a block that decodes: a warp for each piece of a chunk
constexpr int TILE_WARPS = 4;
constexpr int TILE = TILE_WARPS * QUERIES;  // queries (rows times heads) of a block that takes tiles of rows
constexpr int TILED_ROWS = 64;              // more rows than these fill a card as tiles
constexpr int STRETCHED = STRETCH * ATTENTION_CHUNK;  // positions of a stretch
constexpr int MERGING_BLOCKS = 32;
constexpr int FILLING_BLOCKS = 64;          // that ask memory for as much as it gives

// Heads that are WHOLE have 64 columns or 128.
constexpr __host__ __device__ int columns_of(bool whole) { return whole ? WIDTH : MAX_HEAD; }
constexpr __host__ __device__ int steps_of(bool whole) { return columns_of(whole) / STEP; }

// Blocks that a multiprocessor should hold: with more of them registers would spill.
constexpr __host__ __device__ int resident(int type, bool whole, bool tiles) {
  return 1 + tiles + (whole && type != CACHE_F32);
}

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

// Four columns of one query's result, or eight, with maximum and sum.
template <bool WHOLE>
struct Result {
  float a[columns_of(WHOLE) / WIDTH][4];
  float peak, sum;
};

// Of a block that decodes. Maxima and sums have two places, for one chunk after the other.
template <int TYPE, bool WHOLE>
struct Decode {
  Queried<TYPE, steps_of(WHOLE)> queries;
  float peak[2][PIECES][QUERIES], sum[2][PIECES][QUERIES];
  Merge merge[PIECES][QUERIES];           // of a piece with those before
  float mix[PIECES][QUERIES][WIDTH + 4];  // four more, so that a warp's lanes write to different banks
  Result<WHOLE> total[THREADS];           // of each warp's query, out of the registers' way
};

// Where a block leaves its results: `a` [heads, stride], maximum and sum behind each head's columns; or, if `alone`, y.
struct Out {
  float *a;
  int stride;
  bool alone;
};

// Rounds four columns a lane, from c on of a head of y whose first column is `first`, if y is to be rounded.
__device__ inline void round_head(const Rows &y, size_t row, int first, int c, int dim, const float (&v)[4]) {
  if (y.q) round_columns(y, row, first + c, v, c < dim);
}

// The result of this warp's query, number warp of the block's, whose first head is `head`.
template <bool WHOLE>
__device__ inline void put_result(const Out &out, const Rows &y, int row, int head, const Result<WHOLE> &total, int dim) {
  int query = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  float *to = out.a + size_t(query) * out.stride;
#pragma unroll
  for (int h = 0; h < columns_of(WHOLE) / WIDTH; h++) {
    int c = h * WIDTH + 4 * lane;
    float v[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      v[i] = out.alone ? total.a[h][i] / total.sum : total.a[h][i];
      if (c + i < dim) to[c + i] = v[i];
    }
    if (out.alone && h * WIDTH < dim) round_head(y, row, (head + query) * dim, c, dim, v);
  }
  if (!out.alone && lane == 0) to[dim] = total.peak, to[dim + 1] = total.sum;
}

// What merges each of a chunk's pieces with those before it, by the block's first threads.
template <int TYPE, bool WHOLE>
__device__ inline void plan_merges(Decode<TYPE, WHOLE> &s, int pieces, int turn) {
  int piece = threadIdx.x / QUERIES, query = threadIdx.x % QUERIES;
  if (piece >= pieces) return;
  float before = s.peak[turn][0][query];
  for (int k = 1; k < piece; k++) before = fmaxf(before, s.peak[turn][k][query]);
  s.merge[piece][query] = merge(before, s.peak[turn][piece][query]);
}

// Merges a chunk's pieces, and the chunk into those before it, for this warp's query and columns h · WIDTH + 4 · lane, if the head
// has these.
template <int TYPE, bool WHOLE>
__device__ inline void merge_chunk(const Decode<TYPE, WHOLE> &s, Result<WHOLE> &total, int h, int pieces, int turn, bool begins, bool has) {
  int query = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  float a[4] = {}, sum = s.sum[turn][0][query], peak = s.peak[turn][0][query];
  for (int k = 0; k < pieces; k++) {
    Merge m = {};
    if (k > 0) {
      m = s.merge[k][query];
      sum = merged(m, sum, s.sum[turn][k][query]);
      peak = m.peak;
    }
    if (!has) continue;
    float4 v = *reinterpret_cast<const float4 *>(&s.mix[k][query][4 * lane]);
    float next[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++) a[i] = k == 0 ? next[i] : merged(m, a[i], next[i]);
  }
  Merge m = merge(begins ? peak : total.peak, peak);
#pragma unroll
  for (int i = 0; i < 4; i++) total.a[h][i] = begins ? a[i] : merged(m, total.a[h][i], a[i]);
  // With the last columns, as those before need the old maximum too.
  if (h == columns_of(WHOLE) / WIDTH - 1) {
    total.sum = begins ? sum : merged(m, total.sum, sum);
    total.peak = m.peak;
  }
}

// Results that a row's blocks of `positions` leave; none but y if it is one.
__device__ inline int results(const Batch &batch, int row, int positions) {
  return batch.table_at[row] < 0 ? 0 : (batch.positions[row] + positions) / positions;
}

// The `chunks` chunks of a row from `first` on, of which it sees `seen` positions, for `heads` queries that lie in shared memory.
template <int TYPE, bool WHOLE>
__device__ inline void decode_chunks(Decode<TYPE, WHOLE> &s, Result<WHOLE> &total, const Cache &cache, int kv_head, const int32_t *table,
                                     int first, int chunks, int seen, int heads) {
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  Side keys = {cache.k, cache.k_scale, cache.dim, cache.kv_heads}, values = {cache.v, cache.v_scale, cache.dim, cache.kv_heads};
  for (int n = 0; n < chunks && first + n * ATTENTION_CHUNK < seen; n++) {
    int begin = first + n * ATTENTION_CHUNK, at = begin + warp * BLOCK, here = min(seen - at, BLOCK), turn = n % 2, all[2] = {here, here};
    int pieces = min(ceil_div(seen - begin, BLOCK), PIECES);
    size_t place = 0;
    float w[TILES][2];
    if (here > 0) {
      float peak[2], sum[2];
      place = size_t(table[at / BLOCK]) * BLOCK * cache.kv_heads + kv_head;
      score<TYPE, WHOLE>(w, s.queries, keys, place, here);
      weigh<TYPE>(w, all, peak, sum);
#pragma unroll
      for (int i = 0; i < 2; i++) {
        if (lane < 4) s.peak[turn][warp][2 * lane + i] = peak[i], s.sum[turn][warp][2 * lane + i] = sum[i];
      }
    }
#pragma unroll
    for (int h = 0; h < columns_of(WHOLE) / WIDTH; h++) {
      sync_block();
      if (h == 0) plan_merges(s, pieces, turn);
      uint2 scales[TILES];
      if (here > 0) piece_scales<TYPE, WHOLE>(scales, values, place, here, h * WIDTH);
      Weights<TYPE> weights;
      Bytes<WHOLE> bytes;
#pragma unroll
      for (int c = 0; c < WIDTH; c += Columns<TYPE>::TOGETHER) {
        if (here <= 0 || h * WIDTH + c >= cache.dim) continue;
        constexpr int EACH = Columns<TYPE>::EACH;
        if (TYPE == CACHE_Q8_0 && (!WHOLE || c == 0)) bytes.take(values, place, here, h * WIDTH + c);
        if (c == 0 || TYPE == CACHE_Q8_0) weights.take(w, scales, c / CACHE_RUN, all);
        float a[EACH][2];
        mix<TYPE, WHOLE>(a, weights, values, place, here, h * WIDTH + c, bytes.run[WHOLE ? c / CACHE_RUN : 0]);
#pragma unroll
        for (int i = 0; i < 2; i++) {
          float *to = &s.mix[warp][lane % 4 * 2 + i][c + lane / 4 * EACH];
#pragma unroll
          for (int t = 0; t < EACH; t += 4) {
            *reinterpret_cast<float4 *>(to + t) = make_float4(a[t][i], a[t + 1][i], a[t + 2][i], a[t + 3][i]);
          }
        }
      }
      sync_block();
      if (warp < heads) merge_chunk(s, total, h, pieces, turn, n == 0, h * WIDTH + 4 * lane < cache.dim);
    }
  }
}

// This block's chunks of a row, for the heads of a group.
template <int TYPE, bool WHOLE>
__device__ inline void decode(const Rows &y, float *partials, const float *qkv, const Cache &cache, const Batch &batch, const Group &group,
                              int chunks) {
  Decode<TYPE, WHOLE> &s = shared<Decode<TYPE, WHOLE>>();
  int row = blockIdx.x, dim = cache.dim, warp = threadIdx.x / WARP, first = blockIdx.z * chunks * ATTENTION_CHUNK;
  int kv_head = blockIdx.y / group.parts, part = blockIdx.y % group.parts;
  int heads = min(group.heads, group.size - part * group.heads), head = kv_head * group.size + part * group.heads;
  int table = batch.table_at[row], seen = batch.positions[row] + 1;
  Result<WHOLE> &total = s.total[threadIdx.x];
  auto own = [&] { return Out{y.x + (size_t(row) * cache.q_heads + head) * dim, dim, true}; };
  if (table < 0) {
    total = {{}, 0.0f, 1.0f};  // padding: 0 of nothing
    if (blockIdx.z == 0 && warp < heads) put_result<WHOLE>(own(), y, row, head, total, dim);
    return;
  }
  if (first >= seen) return;
  const float *q = qkv + (size_t(row) * (cache.q_heads + 2 * cache.kv_heads) + head) * dim;
  for (int i = threadIdx.x; i < ceil_div(dim, STEP) * WARP; i += THREADS) {
    int lane = i % WARP;
    put_query(s.queries, lane / 4 < heads ? q + lane / 4 * dim : nullptr, i / WARP, lane, dim);
  }
  sync_block();
  decode_chunks<TYPE, WHOLE>(s, total, cache, kv_head, batch.tables + table, first, chunks, seen, heads);
  if (warp >= heads) return;
  size_t place = size_t(row) * gridDim.z + blockIdx.z;
  Out out = {partials + (place * cache.q_heads + head) * (dim + 2), dim + 2, false};
  if (results(batch, row, chunks * ATTENTION_CHUNK) <= 1) out = own();
  put_result<WHOLE>(out, y, row, head, total, dim);
}

// Four columns of what a chunk, a stretch or a context comes to.
struct Sum {
  float a[4], peak, sum;

  __device__ inline void add(const Sum &next, bool begins) {
    Merge m = merge(begins ? next.peak : peak, next.peak);
    peak = m.peak, sum = begins ? next.sum : merged(m, sum, next.sum);
#pragma unroll
    for (int n = 0; n < 4; n++) a[n] = begins ? next.a[n] : merged(m, a[n], next.a[n]);
  }
};

// y = A / L of the rows that left several results, each of `chunks` chunks, in ascending order. A warp has a head, a lane four
// columns at a time.
__device__ inline void merge_results(const Rows &y, const float *partials, const Batch &batch, int heads, int dim, int chunks,
                                     const Share &share) {
  int each = STRETCH / chunks;  // results of a stretch
  for (int unit = share.index * PIECES + threadIdx.x / WARP; unit < int(gridDim.x) * heads; unit += share.of * PIECES) {
    int row = unit / heads, head = unit % heads, count = results(batch, row, chunks * ATTENTION_CHUNK);
    if (count <= 1) continue;
    size_t stride = size_t(heads) * (dim + 2);
    const float *from = partials + (size_t(row) * gridDim.z * heads + head) * (dim + 2);
    for (int c0 = 0; c0 < dim; c0 += WIDTH) {
      int c = c0 + 4 * int(threadIdx.x % WARP);
      Sum stretch = {}, all = {};
#pragma unroll 2
      for (int i = 0; i < count; i++) {
        const float *left = from + i * stride;
        Sum next = {{}, left[dim], left[dim + 1]};
#pragma unroll
        for (int n = 0; n < 4; n++) next.a[n] = c + n < dim ? left[c + n] : 0.0f;
        stretch.add(next, i % each == 0);
        if (i + 1 == count || (i + 1) % each == 0) all.add(stretch, i < each);
      }
#pragma unroll
      for (int n = 0; n < 4; n++) {
        all.a[n] /= all.sum;
        if (c + n < dim) y.x[size_t(unit) * dim + c + n] = all.a[n];
      }
      round_head(y, row, head * dim, c, dim, all.a);
    }
  }
}

// Chunks of each row for the heads of a group: `chunks` a block, 1 or STRETCH. Grid (row, key and value head · parts of its
// group, place in the context), a warp a piece of a chunk. qkv [rows, (q heads + 2 · kv heads) · dim], dim even and ≤ MAX_HEAD.
// Leaves the row's y [q heads, dim], or, where several blocks work on the row, a, m and l in partials [row · gridDim.z + place,
// q head, dim + 2], which the tail merges; padding gets 0. y is rounded too if it has y.q; what shares a scale is then of one
// head. Reads keys and values once, those of a group's parts out of a cache.
template <int TYPE, bool WHOLE>
__global__ void __launch_bounds__(THREADS, resident(TYPE, WHOLE, false))
decode_kernel(Rows y, float *partials, const float *qkv, Cache cache, Batch batch, Group group, int chunks, Tail tail) {
  follow();
  if (works(tail)) decode<TYPE, WHOLE>(y, partials, qkv, cache, batch, group, chunks);
  Share share = finish(tail);
  if (share.index >= 0) merge_results(y, partials, batch, cache.q_heads, cache.dim, chunks, share);
}

// ---- many rows

// The largest of a query's scores, and the sum of its weights.
struct Total {
  float peak, sum;
};

template <int TYPE, bool WHOLE>
struct Tile {
  Queried<TYPE, steps_of(WHOLE)> queries[TILE_WARPS];
  // Of each lane's two queries the stretch, and maxima and sums of the chunk, of the stretch and of those before, whose values
  // are in y.
  float stretch[TILE_WARPS][2][WIDTH / 8][WARP];
  Total totals[TILE_WARPS][3][2][WARP];
};

template <int N>
__device__ inline bool is_finite(const float (&a)[N][2]) {
  bool finite = true;
#pragma unroll
  for (int i = 0; i < 2 * N; i++) finite = finite && fabsf(a[i / 2][i % 2]) <= 3.40282347e38f;
  return finite;
}

// A run of rows of one sequence, and the heads of one key and value head that they attend with. Query j is row
// first_row + j / heads, head first_head + j % heads.
struct Queries {
  int first_row, first_head, heads, count;
  int kv_head;

  // Where it lies in rows of `all` heads of `dim` columns.
  __device__ inline size_t at(int j, int all, int dim) const {
    return (size_t(first_row + j / heads) * all + first_head + j % heads) * dim;
  }
};

// Adds the piece at position `at` to a chunk: its `sums`, of the lane's two queries and the columns from `c` on as `mix` has
// them, and its `totals`. The lane's queries see `seen` positions, the warp's up to `most`.
template <int TYPE, bool WHOLE>
__device__ inline void add_piece(float (&sums)[WIDTH / 8][2], Total (&totals)[2][WARP],
                                 const Queried<TYPE, steps_of(WHOLE)> &queries, const Cache &cache, int kv_head, int block,
                                 int at, const int (&seen)[2], int most, int c) {
  constexpr int EACH = Columns<TYPE>::EACH;
  Side keys = {cache.k, cache.k_scale, cache.dim, cache.kv_heads}, values = {cache.v, cache.v_scale, cache.dim, cache.kv_heads};
  size_t place = size_t(block) * BLOCK * cache.kv_heads + kv_head;
  int here = min(most - at, BLOCK), own[2] = {min(seen[0] - at, BLOCK), min(seen[1] - at, BLOCK)};
  float w[TILES][2], peak[2], sum[2];
  Merge m[2];
  sync_warp();  // lanes part where their queries see different positions
  score<TYPE, WHOLE>(w, queries, keys, place, here);
  weigh<TYPE>(w, own, peak, sum);
#pragma unroll
  for (int i = 0; i < 2; i++) {
    Total &total = totals[i][threadIdx.x % WARP];
    m[i] = merge(total.peak, peak[i]);
    if (own[i] > 0) total = {m[i].peak, merged(m[i], total.sum, sum[i])};
  }
  bool parted = TYPE != CACHE_Q8_0 && vote_any(min(own[0], own[1]) < here);
  uint2 scales[TILES];
  piece_scales<TYPE, WHOLE>(scales, values, place, here, c);
  Weights<TYPE> weights;
  Bytes<WHOLE> bytes;
#pragma unroll
  for (int n = 0; n < WIDTH; n += Columns<TYPE>::TOGETHER) {
    if (c + n >= cache.dim) continue;
    if (n == 0 || TYPE == CACHE_Q8_0) weights.take(w, scales, n / CACHE_RUN, own);
    if (TYPE == CACHE_Q8_0 && (!WHOLE || n == 0)) bytes.take(values, place, here, c + n);
    const auto &run = bytes.run[WHOLE ? n / CACHE_RUN : 0];
    float a[EACH][2];
    auto add = [&](int i) {
      if (own[i] <= 0) return;
#pragma unroll
      for (int t = 0; t < EACH; t++) sums[n / 8 + t][i] = merged(m[i], sums[n / 8 + t][i], a[t][i]);
    };
    mix<TYPE, WHOLE>(a, weights, values, place, here, c + n, run);
    if (!parted || !vote_any(!is_finite(a))) {
      add(0), add(1);
      continue;
    }
    // A value that not all queries see is no number: one after the other with what it sees.
#pragma unroll 1
    for (int turn = 0; turn < QUERIES; turn++) {
      sync_warp();
      int limit = shuffle(turn % 2 ? own[1] : own[0], turn / 2);
      mix<TYPE, WHOLE>(a, weights, values, place, max(limit, 1), c + n, run);
      if (turn / 2 != int(threadIdx.x) % 4) continue;
      if (turn % 2) {
        add(1);
      } else {
        add(0);
      }
    }
  }
}

// Attention of this warp's queries, piece by piece, for WIDTH columns from `c0` on.
template <int TYPE, bool WHOLE>
__device__ inline void attend(Tile<TYPE, WHOLE> &s, float *y, const float *qkv, const Cache &cache, const Queries &queries,
                              const Batch &batch, int c0) {
  constexpr int EACH = Columns<TYPE>::EACH;
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, dim = cache.dim, own = warp * QUERIES + lane % 4 * 2;
  if (warp * QUERIES >= queries.count) return;
  int query = warp * QUERIES + lane / 4;
  const float *from = query < queries.count ? qkv + queries.at(query, cache.q_heads + 2 * cache.kv_heads, dim) : nullptr;
  for (int step = 0; step < ceil_div(dim, STEP); step++) put_query(s.queries[warp], from, step, lane, dim);
  sync_warp();
  int seen[2];
#pragma unroll
  for (int i = 0; i < 2; i++) {
    seen[i] = own + i < queries.count ? batch.positions[queries.first_row + (own + i) / queries.heads] + 1 : 0;
  }
  // Of the lane's sums, and whether the head has it.
  auto column = [=](int t) { return c0 + t / EACH * Columns<TYPE>::TOGETHER + lane / 4 * EACH + t % EACH; };
  auto has = [=](int t) { return (WHOLE ? c0 + t / EACH * Columns<TYPE>::TOGETHER : column(t)) < dim; };
  int most = max(seen[0], seen[1]), table = batch.table_at[queries.first_row];
#pragma unroll
  for (int m = 1; m < 4; m *= 2) most = max(most, shuffle_xor(most, m));
  for (int begin = 0; begin < most; begin += ATTENTION_CHUNK) {
    constexpr float NONE = -3.40282347e38f;
    float chunk[WIDTH / 8][2] = {};
    s.totals[warp][0][0][lane] = s.totals[warp][0][1][lane] = {NONE, 0.0f};  // to which a piece is added as if it were the first
#pragma unroll 1
    for (int at = begin; at < min(begin + ATTENTION_CHUNK, most); at += BLOCK) {
      int block = batch.tables[table + at / BLOCK];
      add_piece<TYPE, WHOLE>(chunk, s.totals[warp][0], s.queries[warp], cache, queries.kv_head, block, at, seen, most, c0);
    }
    int end = begin + ATTENTION_CHUNK;
    bool begins = begin % STRETCHED == 0, first = begin < STRETCHED;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      if (begin >= seen[i]) continue;
      bool done = end >= seen[i] || end % STRETCHED == 0;
      Total last = s.totals[warp][0][i][lane], &stretch = s.totals[warp][1][i][lane], &before = s.totals[warp][2][i][lane];
      Merge m = merge(begins ? last.peak : stretch.peak, last.peak);
      stretch = {m.peak, begins ? last.sum : merged(m, stretch.sum, last.sum)};
      Merge between = merge(first ? m.peak : before.peak, m.peak);
      if (done) before = {between.peak, first ? stretch.sum : merged(between, before.sum, stretch.sum)};
      float *to = y + queries.at(own + i, cache.q_heads, dim);
      auto with = [&](int t) { return begins ? chunk[t][i] : merged(m, s.stretch[warp][i][t][lane], chunk[t][i]); };
      if (!done) {
#pragma unroll
        for (int t = 0; t < WIDTH / 8; t++) s.stretch[warp][i][t][lane] = with(t);
        continue;
      }
#pragma unroll
      for (int t = 0; t < WIDTH / 8; t++) {
        if (has(t)) to[column(t)] = first ? with(t) : merged(between, to[column(t)], with(t));
      }
    }
  }
  for (int i = 0; i < 2; i++) {
    if (seen[i] == 0) continue;
    float *to = y + queries.at(own + i, cache.q_heads, dim), all = s.totals[warp][2][i][lane].sum;
    for (int t = 0; t < WIDTH / 8; t++) {
      if (has(t)) to[column(t)] /= all;
    }
  }
}

// All pieces of the rows of a tile, for the heads of a group. Grid (tile of `rows` of `all` rows, key and value head ·
// parts of its group, WIDTH columns), a warp QUERIES queries. Runs of rows of one sequence go together, one after the other; padding
// gets 0. qkv and y as above. The warps of a block read the same keys and values at about the same time.
template <int TYPE, bool WHOLE>
__global__ void __launch_bounds__(TILE_WARPS *WARP, resident(TYPE, WHOLE, true))
tile_kernel(float *y, const float *qkv, Cache cache, Batch batch, Group group, int rows, int all) {
  follow();
  Tile<TYPE, WHOLE> &s = shared<Tile<TYPE, WHOLE>>();
  // The last rows of a prompt see most: they come first, so that none is waited for at the end.
  int begin = (gridDim.x - 1 - blockIdx.x) * rows, end = min(begin + rows, all);
  int kv_head = blockIdx.y / group.parts, part = blockIdx.y % group.parts;
  int heads = min(group.heads, group.size - part * group.heads), head = kv_head * group.size + part * group.heads;
  for (int row = begin, next; row < end; row = next) {
    int table = batch.table_at[row];
    for (next = row; next < end && batch.table_at[next] == table;) next++;
    if (table < 0) {
      float *to = y + (size_t(row) * cache.q_heads + head) * cache.dim;
      int cols = heads * cache.dim;
      for (int i = threadIdx.x; blockIdx.z == 0 && i < (next - row) * cols; i += TILE_WARPS * WARP) {
        to[size_t(i / cols) * cache.q_heads * cache.dim + i % cols] = 0.0f;
      }
      continue;
    }
    Queries queries = {row, head, heads, (next - row) * heads, kv_head};
    attend<TYPE, WHOLE>(s, y, qkv, cache, queries, batch, blockIdx.z * WIDTH);
    sync_warp();
  }
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
