// Attention of few rows: flash decoding (Dao et al., 2023). Every chunk of every row's context is a block of threads, or every
// stretch of chunks where these are blocks enough, and the last blocks to finish merge what all leave in `Partials`. That is written
// and read again out of a cache: of stretches less than 3 % of the keys and values, of chunks four times that.
#pragma once

#include "rounding.cuh"
#include "softmax.cuh"

namespace CODER_NAMESPACE {
namespace {

constexpr int THREADS = PIECES * WARP;  // of a block: a warp for each piece of a chunk

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

}  // namespace
}  // namespace CODER_NAMESPACE
