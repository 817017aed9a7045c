// Products of float weights, with few rows and with many, and what follows those with few.
//
// The order: the inputs of a row are runs of 32, the last may be shorter. Eight runs are a segment; their values are summed as
// ((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7)), and the segments in ascending order from 0 on. Runs that a row does not
// have count as +0. (A zero's sign may differ within a segment, but 0 + (±0) is +0 in all of them.)
#include "codes.cuh"
#include "entries.cuh"
#include "norm.cuh"
#include "route.cuh"

namespace CODER_NAMESPACE {

constexpr int SEGMENT = 8;  // runs that are summed as a tree

// ---- few rows

constexpr int WARPS = 4;

// Blocks that a multiprocessor should hold: 80 registers a thread, 128 or 168, which loads under way are to fill. Without a
// bound the compiler aims lower on its own account, and spills.
constexpr int resident(int rows) { return rows <= 2 ? 6 : rows <= 4 ? 4 : 3; }

// N numbers of a float row from `at` on, zero from `left` on. `wide`: rows are whole 16 bytes, and so are N numbers.
template <int TYPE, int N>
__device__ inline void numbers(const uint8_t *plane, size_t at, int left, bool wide, float (&to)[N]) {
  constexpr int BYTES = TYPE == F32 ? 4 : 2, EACH = 16 / BYTES;
  if (wide && left > 0) {
#pragma unroll
    for (int i = 0; i < N; i += EACH) {
      uint4 v = field<uint4>(plane, BYTES * (at + i));
      const uint32_t word[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int k = 0; k < EACH; k++) {
        if (TYPE == F32) to[i + k] = as_float(word[k]);
        if (TYPE == F16) to[i + k] = half_to_float(uint16_t(word[k / 2 % 4] >> k % 2 * 16));
        if (TYPE == BF16) to[i + k] = as_float(word[k / 2 % 4] >> k % 2 * 16 << 16);
      }
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; i++) to[i] = i < left ? number<TYPE>(plane, at + i) : 0.0f;
  }
}

// The values of run b of output o with each of the rows `row` of x.
template <int TYPE, int ROWS>
__device__ inline void run_values(const Product &p, size_t o, int b, const size_t (&row)[ROWS], float (&v)[ROWS]) {
  constexpr int N = TYPE == F32 ? 4 : 8;
  int cols = p.x.cols;
  bool wide = cols % N == 0;
#pragma unroll
  for (int r = 0; r < ROWS; r++) v[r] = 0.0f;
#pragma unroll
  for (int i = 0; i < RUN; i += N) {
    int c = b * RUN + i, left = cols - c;
    float w[N], x[N];
    numbers<TYPE>(p.part.plane[0], o * cols + c, left, wide, w);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      numbers<F32>(reinterpret_cast<const uint8_t *>(p.x.x), row[r] * cols + c, left, wide, x);
#pragma unroll
      for (int k = 0; k < N; k++) v[r] = fmaf(w[k], x[k], v[r]);
    }
  }
}

// The trees of N ≤ 8 values over each eight lanes. While there are several, each step sends half of them away and
// keeps the other half, so lane l is left with value `place(l)` and N costs few more shuffles than 1.
template <int N>
__device__ inline float tree(float (&v)[N], int lane) {
  int n = N;
#pragma unroll
  for (int m = 1; m < SEGMENT; m *= 2) {
    bool upper = lane & m;
    if (n > 1) {
      n /= 2;
#pragma unroll
      for (int i = 0; i < n; i++) {
        float sent = upper ? v[i] : v[i + n], kept = upper ? v[i + n] : v[i];
        v[i] = kept + shuffle_xor(sent, m);
      }
    } else {
      v[0] += shuffle_xor(v[0], m);
    }
  }
  return v[0];
}

// The value that lane l < N holds after `tree`: l with its bits in reverse.
template <int N>
__device__ inline int place(int lane) {
  int at = 0;
#pragma unroll
  for (int m = 1; m < N; m *= 2) at = at * 2 + ((lane & m) != 0);
  return at;
}

// y[e, o] = w[expert of e][o] · x[e / sharing] for ROWS entries of a group, or with experts for one. A warp makes an output, lane l
// its runs l, l + 32, …, so that eight lanes have a segment; lane l < ROWS is left with entry place<ROWS>(l).
template <int TYPE, int ROWS>
__device__ inline void few_floats(const Product &p, int group, int block) {
  int lane = threadIdx.x % WARP, o = block * WARPS + threadIdx.x / WARP, runs = ceil_div(p.x.cols, RUN);
  if (o >= p.part.rows) return;
  size_t from = p.expert ? size_t(p.expert[group]) * p.part.rows : 0, row[ROWS];
#pragma unroll
  for (int r = 0; r < ROWS; r++) row[r] = min(group * ROWS + r, p.entries - 1) / p.sharing;
  float total = 0.0f;
  for (int begin = 0; begin < runs; begin += WARP) {
    // Lanes behind the last run repeat it and drop the result: a branch would keep loads from moving ahead.
    float v[ROWS];
    run_values<TYPE, ROWS>(p, from + o, min(begin + lane, runs - 1), row, v);
#pragma unroll
    for (int r = 0; r < ROWS; r++) v[r] = begin + lane < runs ? v[r] : 0.0f;
    float segment = tree<ROWS>(v, lane);
#pragma unroll
    for (int g = 0; g < WARP; g += SEGMENT) total += shuffle(segment, g + lane % SEGMENT);
  }
  int e = group * ROWS + place<ROWS>(lane);
  if (lane < ROWS && e < p.entries) put(p, e, p.part.first + o, total);
}

// Products of a part with ROWS entries at a time. Grid ⌈rows of part / WARPS⌉ · groups of entries, those of the same weights side by
// side. Reads all weights once for each group (from the second on out of a cache), x from a cache. The tail, if there is one,
// makes the norm of the entries, or their routes.
template <int TYPE, int ROWS>
__global__ void __launch_bounds__(WARPS *WARP, resident(ROWS)) few_floats_kernel(Product p, int groups, After after, Tail tail) {
  follow();
  if (works(tail)) few_floats<TYPE, ROWS>(p, blockIdx.x % groups, blockIdx.x / groups);
  Share share = finish(tail);
  if (share.index < 0) return;
  if (after.routes.experts) {
    for (int row = share.index * WARPS + threadIdx.x / WARP; row < p.entries; row += share.of * WARPS) route_row(after.routes, p.y, row);
  } else {
    norm_tail(shared<Sums>(), after.norm, p.y, p.entries, share);
  }
}

template <int TYPE, int ROWS>
static int launch_rows(Device *device, const Product &p, const After &after) {
  int groups = ceil_div(p.entries, ROWS);
  unsigned blocks = unsigned(ceil_div(p.part.rows, WARPS)) * groups;
  Tail tail = tail_of(device, after.norm.w ? NORM_BLOCKS : after.routes.experts ? ceil_div(p.entries, WARPS) : 0);
  return launch(device, PRODUCT[TYPE], few_floats_kernel<TYPE, ROWS>, dim3(blocks), WARPS * WARP, sizeof(Sums), p, groups, after, tail);
}

template <int TYPE>
static int launch_few(Device *device, const Product &p, const After &after) {
  if (p.expert || p.entries == 1) return launch_rows<TYPE, 1>(device, p, after);
  if (p.entries == 2) return launch_rows<TYPE, 2>(device, p, after);
  if (p.entries <= 4) return launch_rows<TYPE, 4>(device, p, after);
  return launch_rows<TYPE, 8>(device, p, after);
}

int matmul_few_floats(Device *device, const Product &p, const After &after) {
  switch (p.part.type) {
    CODER_FLOATS(launch_few, device, p, after)
    CODER_UNKNOWN
  }
}

// ---- many rows

// Outputs and entries of a block whose threads make EACH of EACH: the more, the less is read from shared memory; the fewer, the
// more multiprocessors a small product keeps busy, a router's say.
constexpr int MOST_EACH = 4, LEAST_EACH = 2;
__host__ __device__ constexpr int tile_of(int each) { return 16 * each; }

// The partial sums of a row: v of run b is added. The slots form a stack as high as a segment's tree.
struct Tree {
  float slot[3];
  float total;

  __device__ inline void begin() { total = 0.0f; }

  __device__ inline void add(int b, float v) {
    switch (b % SEGMENT) {
      case 0: slot[0] = v; break;
      case 1: slot[0] += v; break;
      case 2: slot[1] = v; break;
      case 3: slot[0] += slot[1] + v; break;
      case 4: slot[1] = v; break;
      case 5: slot[1] += v; break;
      case 6: slot[2] = v; break;
      case 7: total += slot[0] + (slot[1] + (slot[2] + v)); break;
    }
  }
};

constexpr int FLOAT_THREADS = 256;

template <int TILE>
struct FloatStage {
  Entries<TILE> entries;
  alignas(16) float w[RUN][TILE + 4];  // numbers of a run, input by input, of each output
  alignas(16) float x[RUN][TILE + 4];  // and of each entry
};

template <int N>
__device__ inline void side_by_side(const float *from, float (&to)[N]) {
  if constexpr (N == 4) {
    float4 v = *reinterpret_cast<const float4 *>(from);
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
  } else {
    float2 v = *reinterpret_cast<const float2 *>(from);
    to[0] = v.x, to[1] = v.y;
  }
}

// y[e, o] = w[expert][o] · x[e / sharing], in f32. A block makes TILE outputs of up to TILE entries of one expert, a thread EACH of
// EACH, a run at a time. Grid: entries.cuh. Reads the weights once for each tile of entries.
template <int TYPE, int EACH>
__global__ void __launch_bounds__(FLOAT_THREADS, 2) many_floats_kernel(Product p) {
  follow();
  constexpr int TILE = tile_of(EACH), ALL = EACH * EACH;
  FloatStage<TILE> &stage = shared<FloatStage<TILE>>();
  Spot spot = spot_of<TILE>(p, ceil_div(p.part.rows, TILE));
  if (gather(p, spot, stage.entries) == 0) return;
  int cols = p.x.cols, c = threadIdx.x % RUN, o0 = threadIdx.x % 16 * EACH, e0 = threadIdx.x / 16 * EACH;
  Tree trees[EACH][EACH];
#pragma unroll
  for (int i = 0; i < ALL; i++) trees[i / EACH][i % EACH].begin();
  int runs = ceil_div(cols, RUN);
  for (int b = 0; b < ceil_div(runs, SEGMENT) * SEGMENT; b++) {
    float v[EACH][EACH] = {};
    if (b < runs) {
      sync_block();
      int at = b * RUN + c, output = stage.entries.outputs * TILE;
      size_t row = size_t(stage.entries.expert) * p.part.rows + output;
#pragma unroll
      for (int i = 0; i < TILE; i += FLOAT_THREADS / RUN) {
        int here = i + threadIdx.x / RUN;
        bool is = at < cols && output + here < p.part.rows;
        stage.w[c][here] = is ? number<TYPE>(p.part.plane[0], (row + here) * cols + at) : 0.0f;
        stage.x[c][here] = at < cols ? p.x.x[size_t(stage.entries.x[here]) * cols + at] : 0.0f;
      }
      sync_block();
#pragma unroll 8
      for (int k = 0; k < RUN; k++) {
        float w[EACH], x[EACH];
        side_by_side(&stage.w[k][o0], w);
        side_by_side(&stage.x[k][e0], x);
#pragma unroll
        for (int i = 0; i < ALL; i++) v[i / EACH][i % EACH] = fmaf(w[i % EACH], x[i / EACH], v[i / EACH][i % EACH]);
      }
    }
#pragma unroll
    for (int i = 0; i < ALL; i++) trees[i / EACH][i % EACH].add(b, v[i / EACH][i % EACH]);
  }
#pragma unroll
  for (int i = 0; i < ALL; i++) {
    int e = e0 + i / EACH, o = stage.entries.outputs * TILE + o0 + i % EACH;
    if (e < stage.entries.count && o < p.part.rows) put(p, stage.entries.y[e], p.part.first + o, trees[i / EACH][i % EACH].total);
  }
}

template <int EACH>
static unsigned blocks_each(const Product &p) {
  return blocks_of<tile_of(EACH)>(p, ceil_div(p.part.rows, tile_of(EACH)));
}

template <int TYPE, int EACH>
static int launch_each(Device *device, const Product &p) {
  return launch(device, PRODUCT[TYPE], many_floats_kernel<TYPE, EACH>, dim3(blocks_each<EACH>(p)), FLOAT_THREADS,
                sizeof(FloatStage<tile_of(EACH)>), p);
}

template <int TYPE>
static int launch_many(Device *device, const Product &p) {
  // Four times as many blocks of less than half the work each.
  bool leaves_room = 2 * blocks_each<MOST_EACH>(p) <= unsigned(multiprocessors(device));
  return leaves_room ? launch_each<TYPE, LEAST_EACH>(device, p) : launch_each<TYPE, MOST_EACH>(device, p);
}

int matmul_many_floats(Device *device, const Product &p) {
  switch (p.part.type) {
    CODER_FLOATS(launch_many, device, p)
    CODER_UNKNOWN
  }
}

}  // namespace CODER_NAMESPACE
