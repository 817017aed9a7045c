// What the kernels of few rows share: 16 outputs of up to 8 entries, or up to 16, which are two tiles. Weights stream by once,
// unpacked in registers into the fragments of tensor cores, and memory is what limits.
//
// Warp g of SUMS has the tiles' sums g, of units g, g + SUMS, …; each unit of weights is read one step ahead. That is all that
// registers have room for, and too little for cards of much bandwidth: from 9.0 on a block also asks the second cache for the next
// steps' weights, for the first of them ahead of its wait for the launch before, whose end then leaves no gap.
#pragma once

#include "matmul.cuh"
#include "units.cuh"

namespace CODER_NAMESPACE {

// The sums of tiles. Four more than there are outputs, so that a warp's lanes write to different banks.
template <int TILES>
struct Totals {
  float sum[SUMS][TILES * TILE_ENTRIES][TILE_OUTPUTS + 4];
};

constexpr int MOST_TILES = FEW_ROWS / TILE_ENTRIES;
static_assert(MOST_TILES == 2, "kernels are made for one tile and for two");

// Rows of x that a lane's fragments of a tile are of, -1 for none: codes of the one, scales of the others.
struct InputRows {
  int code, scale[2];
};

// Blocks that a multiprocessor should hold, so that the loads of enough warps are under way: three have 80 registers a thread, two
// have 128. Q4_1 and Q5_1 need some more.
constexpr int resident(int type, int tiles) {
  bool more = type == Q5_1 || (type == Q4_1 && tiles == 1);
  return (tiles == 1 ? 3 : 2) - more;
}

// What a side of a lane's fragments is of: row number `row` of a part.
struct PartRow {
  const Part &part;
  size_t row;
};

// Units of a row that are asked for together, while as many before them are worked on.
constexpr int ASKED = 4 * SUMS;

// Asks for units `from` … of a block's rows: lane 4g of warp g for those of its two sides.
__device__ inline void ask(int type, const PartRow (&sides)[2], int units, int from) {
  if (threadIdx.x % WARP != threadIdx.x / WARP * 4 || from >= units) return;
  int count = min(ASKED, units - from);
#pragma unroll
  for (int i = 0; i < 8; i++) {
    const PartRow &side = sides[i / 4];
    uint32_t bytes = unit_bytes(type) >> i % 4 * 8 & 255;
    if (bytes == 0) continue;
    size_t begin = before(uint32_t(side.row) * units + from, bytes), end = begin + count * bytes;
    begin &= ~size_t(15);
    fetch_ahead(side.part.plane[i % 4] + begin, uint32_t((end - begin + 15) & ~size_t(15)));
  }
}

// Entries of a block: those of a product of few rows, or one with an expert.
struct BlockEntries {
  int first, count;
};

__device__ inline BlockEntries entries_of(const Product &p, int group) {
  return p.expert ? BlockEntries{group, 1} : BlockEntries{0, p.entries};
}

// Blocks of one tile of outputs.
inline int groups_of(const Product &p) { return p.expert ? p.entries : 1; }
inline int tiles_of(const Product &p) { return p.expert ? 1 : ceil_div(p.entries, TILE_ENTRIES); }

// Entries of several tiles have no experts, and read rows of their own.
template <int TILES>
__device__ inline InputRows rows_of(const Product &p, const BlockEntries &entries, int tile) {
  int lane = threadIdx.x % WARP, first = tile * TILE_ENTRIES;
  const int e[3] = {first + lane / 4, first + lane % 4 * 2, first + lane % 4 * 2 + 1};
  int row[3];
#pragma unroll
  for (int i = 0; i < 3; i++) {
    int own = TILES == 1 ? (entries.first + e[i]) / p.sharing : e[i];
    row[i] = e[i] < entries.count ? own : -1;
  }
  return {row[0], {row[1], row[2]}};
}

// Unit `unit` of rows of x that have `units`; zero for rows that are not there.
template <int TYPE>
__device__ inline void load(const Rows &x, const InputRows &rows, int units, int unit, int t, Inputs<TYPE> &to) {
  using C = Codes<TYPE>;
  uint32_t code[2 * UNIT_RUNS] = {};
  to = {};
  if (rows.code >= 0) {
    uint32_t at = uint32_t(rows.code) * units + unit;
    share<2 * UNIT_RUNS>(reinterpret_cast<const uint8_t *>(x.q), at, t, code);
    if constexpr (C::INTEGER && C::MINIMA) to.sum = x.sum[at * UNIT_RUNS + t];
  }
#pragma unroll
  for (int i = 0; i < 2 * UNIT_RUNS; i++) to.code[i] = int(code[i]);
#pragma unroll
  for (int k = 0; k < 2; k++) {
    if (rows.scale[k] < 0) continue;
    uint32_t at = (uint32_t(rows.scale[k]) * units + unit) * UNIT_RUNS;
    if constexpr (C::INTEGER) {
      to.scale[k] = x.scale[at];
    } else {
      uint32_t scales[UNIT_RUNS], sums[UNIT_RUNS];
      words<UNIT_RUNS>(reinterpret_cast<const uint8_t *>(x.scale), before(at, 4), scales);
      if (C::MINIMA) words<UNIT_RUNS>(reinterpret_cast<const uint8_t *>(x.sum), before(at, 4), sums);
#pragma unroll
      for (int r = 0; r < UNIT_RUNS; r++) {
        to.scale[k][r] = as_float(scales[r]);
        if (C::MINIMA) to.sum[k][r] = both_halves(sums[r]);
      }
    }
  }
}

// Sums g of a lane's outputs, with the rows of x that `rows` gives for a tile.
template <int TYPE, int TILES, typename F>
__device__ inline void sum_units(const Rows &x, const PartRow (&sides)[2], F rows, int g, float (&sum)[TILES][4]) {
  using C = Codes<TYPE>;
  int units = ceil_div(x.cols, UNIT), t = threadIdx.x % 4;
  if (g >= units) return;
  uint32_t o[2];
  typename C::Raw raw[2];
#pragma unroll
  for (int side = 0; side < 2; side++) {
    o[side] = uint32_t(sides[side].row) * units;
    C::read(sides[side].part.plane, o[side] + g, t, raw[side]);
  }
#pragma unroll 1
  for (int u = g; u < units;) {
    // Two tiles have twice the work for the same weights.
    int end = TILES == 1 ? min(u + ASKED, units) : units;
    ask(TYPE, sides, units, u - g + ASKED);
#pragma unroll 1
    for (; u < end; u += SUMS) {
      Outputs<TYPE> w;
      int next = u + SUMS < units ? u + SUMS : u;
#pragma unroll
      for (int side = 0; side < 2; side++) {
        unpack<TYPE>(w, side, raw[side], g, t);
        C::read(sides[side].part.plane, o[side] + next, t, raw[side]);
      }
#pragma unroll
      for (int n = 0; n < TILES; n++) {
        Inputs<TYPE> in;
        load<TYPE>(x, rows(n), units, u, t, in);
        add_unit<TYPE>(w, in, sum[n]);
      }
    }
  }
}

// The block's sums of its outputs, of which a warp makes one; `side` gives a lane's outputs, of an expert or of the only weights.
// Waits for the launch before.
template <int TYPE, int TILES, typename F>
__device__ inline void leave(Totals<TILES> &s, const Product &p, int group, const BlockEntries &entries, F side) {
  // Which expert's rows they are is known behind the wait.
  if (!p.expert) ask(TYPE, {side(0, 0), side(1, 0)}, ceil_div(p.x.cols, UNIT), 0);
  await_previous();
  int expert = p.expert ? p.expert[group] : 0;
  float sum[TILES][4] = {};
  InputRows one = rows_of<TILES>(p, entries, 0);
  auto rows = [&](int n) { return TILES == 1 ? one : rows_of<TILES>(p, entries, n); };
  int lane = threadIdx.x % WARP, g = threadIdx.x / WARP;
  sum_units<TYPE, TILES>(p.x, {side(0, expert), side(1, expert)}, rows, g, sum);
#pragma unroll
  for (int i = 0; i < 4 * TILES; i++) {
    s.sum[g][i / 4 * TILE_ENTRIES + lane % 4 * 2 + i % 2][lane / 4 + i % 4 / 2 * 8] = sum[i / 4][i % 4];
  }
}

// The product of entry e and output o of a block, of rows of `cols` columns.
template <int TILES>
__device__ inline float total(const Totals<TILES> &s, int cols, int e, int o) {
  float v = 0.0f;
  for (int g = 0; g < min(SUMS, ceil_div(cols, UNIT)); g++) v += s.sum[g][e][o];
  return v;
}

// y[e, o] = w[expert of e][o] · x[e / sharing] for the entries of a group and the outputs of tile number `tile` of a part. All
// threads of a block of SUMS warps take part. Waits for the launch before.
template <int TYPE, int TILES>
__device__ inline void few(Totals<TILES> &s, const Product &p, const Part &own, int group, int tile) {
  BlockEntries entries = entries_of(p, group);
  int first = tile * TILE_OUTPUTS, e = threadIdx.x / TILE_OUTPUTS, o = threadIdx.x % TILE_OUTPUTS;
  auto side = [&](int i, int expert) -> PartRow {
    return {own, size_t(expert) * own.rows + min(first + int(threadIdx.x) % WARP / 4 + 8 * i, own.rows - 1)};
  };
  leave<TYPE, TILES>(s, p, group, entries, side);
  sync_block();
  if (e < entries.count && first + o < own.rows) put(p, entries.first + e, own.first + first + o, total(s, p.x.cols, e, o));
}
static_assert(SUMS * WARP >= FEW_ROWS * TILE_OUTPUTS, "a thread has an entry's output");

}  // namespace CODER_NAMESPACE
