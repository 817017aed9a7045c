// Attention of many rows: every warp takes some queries through all of their context, so that a block's keys and values come from
// memory once.
#pragma once

#include "softmax.cuh"

namespace CODER_NAMESPACE {
namespace {

constexpr int TILE_WARPS = 4;
constexpr int TILE = TILE_WARPS * QUERIES;            // queries (rows times heads) of a block
constexpr int STRETCHED = STRETCH * ATTENTION_CHUNK;  // positions of a stretch

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
// gets 0. qkv and y as in attention_few.cuh. The warps of a block read the same keys and values at about the same time.
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

}  // namespace
}  // namespace CODER_NAMESPACE
