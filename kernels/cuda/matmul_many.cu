// Products of quantized weights with many rows: weights are unpacked once into shared memory and multiplied with a tile of
// rows, on tensor cores. Those of gate and up, of one part, are gated as they are made: what would be written twice as wide and
// read again is most of what a feed-forward part moves.
#include "entries.cuh"
#include "exp.cuh"
#include "units.cuh"

namespace CODER_NAMESPACE {

constexpr int MANY_WARPS = 16, THREADS = MANY_WARPS * WARP;
constexpr int OUTPUTS = 128;                  // of a block
constexpr int SIDE = OUTPUTS / TILE_OUTPUTS;  // warps side by side
static_assert(OUTPUTS * 4 == THREADS, "a thread unpacks a lane's share of a unit");

// Entries from a warp's tile to its next: however few there are, warps share them evenly, as no other block has room beside them.
constexpr int BETWEEN = MANY_WARPS / SIDE * TILE_ENTRIES;

// Tiles of a warp, one below the other: as many as registers have room for. And entries of a block.
template <int TYPE>
__host__ __device__ constexpr int tiles_of() {
  bool one = Codes<TYPE>::SCALES == 1, minima = Codes<TYPE>::MINIMA;
  return Codes<TYPE>::INTEGER && one ? 6 : minima ? 3 : 4;
}
template <int TYPE>
__host__ __device__ constexpr int entries_of() {
  return tiles_of<TYPE>() * TILE_ENTRIES * (MANY_WARPS / SIDE);
}

// Words of a row of codes in shared memory. Four more than codes need: 8 rows by 4 words lie in 32 banks.
constexpr int STRIDE = UNIT / 4 + 4;

// Codes of a unit of outputs o and o + 8 as a lane's fragments want them, four words of each run; likewise padded.
using Pairs = int[OUTPUTS / 2][4][4 * UNIT_RUNS + 4];

// The output that this thread unpacks a share of: a warp has four pairs.
struct Place {
  int pair, side, t;
  __device__ inline Place() : pair(threadIdx.x / 8), side(threadIdx.x / 4 % 2), t(threadIdx.x % 4) {}
  __device__ inline int output() const { return pair / 8 * TILE_OUTPUTS + pair % 8 + 8 * side; }
};

// What a unit of a block's outputs has beside codes.
template <int TYPE, bool INTEGER = Codes<TYPE>::INTEGER>
struct Scales {
  static constexpr int SCALES = Codes<TYPE>::SCALES;
  uint32_t scale[SCALES][OUTPUTS];
  uint32_t minimum[SCALES][OUTPUTS];
  float d[OUTPUTS], m[OUTPUTS];

  __device__ inline void put(int o, int t, const typename Codes<TYPE>::Of &w) {
    if (t > 0) return;
#pragma unroll
    for (int s = 0; s < SCALES; s++) {
      scale[s][o] = w.scale[s];
      if (Codes<TYPE>::MINIMA) minimum[s][o] = w.minimum[s];
    }
    d[o] = w.d;
    if (Codes<TYPE>::MINIMA) m[o] = w.m;
  }
  __device__ inline void get(int o, typename Codes<TYPE>::Of &w) const {
#pragma unroll
    for (int s = 0; s < SCALES; s++) {
      w.scale[s] = scale[s][o];
      if (Codes<TYPE>::MINIMA) w.minimum[s] = minimum[s][o];
    }
    w.d = d[o];
    if (Codes<TYPE>::MINIMA) w.m = m[o];
  }
};

template <int TYPE>
struct Scales<TYPE, false> {
  alignas(16) uint32_t halves[OUTPUTS][UNIT_RUNS];

  __device__ inline void put(int o, int t, const typename Codes<TYPE>::Of &w) {
    if (t == 0) *reinterpret_cast<uint4 *>(halves[o]) = make_uint4(w.halves[0], w.halves[1], w.halves[2], w.halves[3]);
  }
  __device__ inline void get(int o, typename Codes<TYPE>::Of &w) const {
    uint4 v = *reinterpret_cast<const uint4 *>(halves[o]);
    w.halves[0] = v.x, w.halves[1] = v.y, w.halves[2] = v.z, w.halves[3] = v.w;
  }
};

// A unit of a block's entries.
template <int TYPE>
struct Rounded {
  static constexpr int ENTRIES = entries_of<TYPE>();
  alignas(16) int code[ENTRIES][STRIDE];
  alignas(16) float scale[ENTRIES][Codes<TYPE>::INTEGER ? 1 : UNIT_RUNS];
  alignas(16) uint32_t sum[ENTRIES][UNIT_RUNS];
};

// A unit of a block's outputs, the same of its entries, and the next of these, which is on its way.
template <int TYPE>
struct Stage {
  Entries<entries_of<TYPE>()> entries;
  alignas(16) Pairs w;
  Scales<TYPE> scales;
  Rounded<TYPE> x[2];
};

template <int N>
__device__ inline void shared_words(const int *from, int (&to)[N]) {
#pragma unroll
  for (int i = 0; i < N; i += 4) {
    int4 v = *reinterpret_cast<const int4 *>(from + i);
    to[i] = v.x, to[i + 1] = v.y, to[i + 2] = v.z, to[i + 3] = v.w;
  }
}

// Puts this thread's share of a unit into shared memory.
template <int TYPE>
__device__ inline void unpack(Stage<TYPE> &to, const Place &place, const typename Codes<TYPE>::Raw &raw, int unit) {
  typename Codes<TYPE>::Of w;
  Codes<TYPE>::unpack(raw, unit, w);
#pragma unroll
  for (int i = 0; i < 2 * UNIT_RUNS; i++) to.w[place.pair][place.t][2 * i + place.side] = w.code[i];
  to.scales.put(place.output(), place.t, w);
}

// Begins the copy of a unit of the entries' rounding.
template <int TYPE>
__device__ inline void fetch(const Rows &x, const Stage<TYPE> &stage, Rounded<TYPE> &to, int units, int unit) {
  using C = Codes<TYPE>;
  constexpr int PIECES = UNIT / 16, ENTRIES = entries_of<TYPE>();
  int piece = threadIdx.x % PIECES;
#pragma unroll
  for (int e = threadIdx.x / PIECES; e < ENTRIES; e += THREADS / PIECES) {
    size_t at = size_t(stage.entries.x[e]) * units + unit;
    copy_async_16(&to.code[e][piece * 4], x.q + at * UNIT + piece * 16);
  }
  int e = threadIdx.x % ENTRIES;
  size_t at = (size_t(stage.entries.x[e]) * units + unit) * UNIT_RUNS;
  if (threadIdx.x < ENTRIES) {
    if constexpr (C::INTEGER) {
      to.scale[e][0] = x.scale[at];
    } else {
      copy_async_16(to.scale[e], x.scale + at);
    }
  } else if (C::MINIMA && threadIdx.x < 2 * ENTRIES) {
    copy_async_16(to.sum[e], x.sum + at);
  }
}

// The fragment of the warp's outputs, from number `first` of the block's on.
template <int TYPE>
__device__ inline void outputs(const Stage<TYPE> &from, int first, int lane, Outputs<TYPE> &to) {
#pragma unroll
  for (int r = 0; r < UNIT_RUNS; r++) shared_words(&from.w[first / 2 + lane / 4][lane % 4][4 * r], to.code[r]);
#pragma unroll
  for (int side = 0; side < 2; side++) {
    typename Codes<TYPE>::Of w;
    from.scales.get(first + lane / 4 + 8 * side, w);
    to.set(side, w, lane % 4);
  }
}

// The fragment of eight entries, from number `first` of the block's on.
template <int TYPE>
__device__ inline void inputs(const Rounded<TYPE> &from, int first, int lane, Inputs<TYPE> &to) {
  using C = Codes<TYPE>;
  int e = first + lane / 4, t = lane % 4;
  shared_words(&from.code[e][t * 8], to.code);
  if constexpr (C::INTEGER && C::MINIMA) to.sum = from.sum[e][t];
#pragma unroll
  for (int k = 0; k < 2; k++) {
    if constexpr (C::INTEGER) {
      to.scale[k] = from.scale[first + 2 * t + k][0];
    } else {
#pragma unroll
      for (int r = 0; r < UNIT_RUNS; r++) {
        to.scale[k][r] = from.scale[first + 2 * t + k][r];
        if (C::MINIMA) to.sum[k][r] = both_halves(from.sum[first + 2 * t + k][r]);
      }
    }
  }
}

// Parts of the outputs, each of which a block makes.
template <bool GATE>
__host__ __device__ inline int parts_of(const Product &p) {
  return GATE ? ceil_div(p.out, OUTPUTS / 2) : ceil_div(p.part.rows, OUTPUTS);
}

// The row of the weights that a thread unpacks a share of, of a part of an expert's outputs: made anew each time, as a register that
// kept it would be one too many.
template <bool GATE>
__device__ inline uint32_t row_of(const Product &p, const Place &place, int expert, int outputs) {
  int row = GATE ? place.side * p.out + min(outputs * (OUTPUTS / 2) + place.pair, p.out - 1)
                 : min(outputs * OUTPUTS + place.output(), p.part.rows - 1);
  return uint32_t(expert * p.part.rows + row);
}

// y[e, o] = w[expert][o] · x[e / sharing]; or with GATE, of weights of which the first half of the rows is gate and the second up,
// silu(w[expert][o] · x[e / sharing]) · (w[expert][out + o] · x[e / sharing]). A block makes OUTPUTS products of up to
// entries_of(TYPE) entries of one expert, a warp 16 of them of every second tile of entries; of gate and up eight each, and those
// of one output are one thread's. Grid: entries.cuh. A unit at a time lies in shared memory, those of one sum after the other; the next is
// on its way to registers and to shared memory. Reads the weights once for each tile of entries, and the rounding of the tile's
// entries once for each OUTPUTS products.
template <int TYPE, bool GATE>
__global__ void __launch_bounds__(THREADS, 1) many_kernel(Product p) {
  follow();
  using C = Codes<TYPE>;
  constexpr int TILES = tiles_of<TYPE>();
  Stage<TYPE> &stage = shared<Stage<TYPE>>();
  Spot spot = spot_of<entries_of<TYPE>()>(p, parts_of<GATE>(p));
  int entries = gather(p, spot, stage.entries);
  if (entries == 0) return;
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, units = ceil_div(p.x.cols, UNIT);
  int o = warp % SIDE * TILE_OUTPUTS, e = warp / SIDE * TILE_ENTRIES;
  Place place;
  typename C::Raw ahead;
  C::read(p.part.plane, row_of<GATE>(p, place, spot.expert, spot.outputs) * units, place.t, ahead);
  sync_block();
  fetch(p.x, stage, stage.x[0], units, 0);
  copy_async_commit();
  float all[TILES][4] = {};
  int sums = min(SUMS, units), side = 0;
#pragma unroll 1
  for (int g = 0; g < sums; g++) {
    float sum[TILES][4] = {};
#pragma unroll 1
    for (int u = g; u < units; u += SUMS, side ^= 1) {
      int next = u + SUMS < units ? u + SUMS : g + 1 < sums ? g + 1 : units;
      sync_block();
      unpack<TYPE>(stage, place, ahead, u);
      if (next < units) {
        C::read(p.part.plane, row_of<GATE>(p, place, stage.entries.expert, stage.entries.outputs) * units + next, place.t, ahead);
        fetch(p.x, stage, stage.x[side ^ 1], units, next);
      }
      copy_async_commit();
      copy_async_wait<1>();
      sync_block();
      Outputs<TYPE> w;
      outputs(stage, o, lane, w);
#pragma unroll
      for (int n = 0; n < TILES; n++) {
        if (e + n * BETWEEN >= entries) break;
        Inputs<TYPE> x;
        inputs(stage.x[side], e + n * BETWEEN, lane, x);
        add_unit<TYPE>(w, x, sum[n]);
      }
    }
#pragma unroll
    for (int i = 0; i < 4 * TILES; i++) all[i / 4][i % 4] += sum[i / 4][i % 4];
  }
  if constexpr (GATE) {
    int output = stage.entries.outputs * (OUTPUTS / 2) + o / 2 + lane / 4;
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++) {
      int entry = e + i / 2 * BETWEEN + lane % 4 * 2 + i % 2;
      float v = gated(all[i / 2][i % 2], all[i / 2][i % 2 + 2]);
      if (entry < entries && output < p.out) p.y[size_t(stage.entries.y[entry]) * p.out + output] = v;
    }
    return;
  }
  int first = stage.entries.outputs * OUTPUTS;
#pragma unroll
  for (int i = 0; i < 4 * TILES; i++) {
    int entry = e + i / 4 * BETWEEN + lane % 4 * 2 + i % 2, output = first + o + lane / 4 + i % 4 / 2 * 8;
    if (entry < entries && output < p.part.rows) put(p, stage.entries.y[entry], p.part.first + output, all[i / 4][i % 4]);
  }
}

template <int TYPE, bool GATE>
static int launch_type(Device *device, const Product &p) {
  dim3 grid(blocks_of<entries_of<TYPE>()>(p, parts_of<GATE>(p)));
  const char *name = (GATE ? GATED : PRODUCT)[TYPE];
  return launch(device, name, many_kernel<TYPE, GATE>, grid, THREADS, sizeof(Stage<TYPE>), p);
}

template <int TYPE>
static int launch_products(Device *device, const Product &p) {
  return launch_type<TYPE, false>(device, p);
}

template <int TYPE>
static int launch_gated(Device *device, const Product &p) {
  return launch_type<TYPE, true>(device, p);
}

int matmul_many(Device *device, const Product &p) {
  switch (p.part.type) {
    CODER_CODES(launch_products, device, p)
    CODER_UNKNOWN
  }
}

int matmul_many_gated(Device *device, const Product &p) {
  switch (p.part.type) {
    CODER_CODES(launch_gated, device, p)
    CODER_UNKNOWN
  }
}

}  // namespace CODER_NAMESPACE
