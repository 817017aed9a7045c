// Products with many rows: weights are unpacked once into shared memory and multiplied with a tile of rows.
//
// Encoded weights go through tensor cores, whose integer sums are exact; float types through a plain tiled kernel.
#include "matmul.cuh"

namespace CODER_NAMESPACE {

constexpr int TILE = 64;  // outputs and entries of a block
constexpr int STEP = 4;   // runs that are in shared memory at a time: half a segment

// Words of a row of codes in shared memory. Four more than codes need: a fragment's 8 rows by 4 words lie in 32 banks.
constexpr int STRIDE = STEP * RUN / 4 + 4;

// Scales of 64 outputs or rows, padded so that those who write them, 4 runs by 8, find 32 banks.
constexpr int SCALES_STRIDE = TILE + 8;

// Added to a sum below 2²², these bits are a float from 2²³ to 2²⁴ whose last places are the sum: subtracting
// ROUND gives it as a float. Sums begin there, since converting integers is slow on most cards.
constexpr int SUM_BEGIN = 0x4B400000;
constexpr float ROUND = 12582912.0f;

// The entries of a tile: which rows they read and write. A short tile repeats its last.
struct Entries {
  int x[TILE];
  int y[TILE];
};

// The entries of expert blockIdx.z from TILE · blockIdx.x on, put in shared memory; returns how many. 0 for a block that
// the routing leaves without work.
__device__ inline int gather(const Product &p, Entries &to) {
  int begin = p.order ? p.start[blockIdx.z] : 0;
  int end = p.order ? p.start[blockIdx.z + 1] : p.entries;
  int first = begin + blockIdx.x * TILE;
  if (first >= end) return 0;
  if (threadIdx.x < TILE) {
    int at = min(first + int(threadIdx.x), end - 1);
    int entry = p.order ? p.order[at] : at;
    to.x[threadIdx.x] = entry / p.sharing;
    to.y[threadIdx.x] = entry;
  }
  return min(TILE, end - first);
}

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

// ---- encoded weights

constexpr int THREADS = 128;

template <int TYPE>
struct Stage {
  static constexpr int SCALES = Codes<TYPE>::SCALES, MINIMA = Codes<TYPE>::MINIMA ? SCALES : 1;
  Entries entries;
  int w[TILE][STRIDE];  // codes of STEP runs of each output
  int x[TILE][STRIDE];  // and of each entry
  float w_scale[SCALES][STEP][SCALES_STRIDE];
  float w_minimum[MINIMA][STEP][SCALES_STRIDE];
  float x_scale[STEP][SCALES_STRIDE];
  float x_sum[MINIMA][STEP][SCALES_STRIDE];
};

// Unpacks runs from `begin` on of the tile's outputs, a thread a run, one run in four threads side by side. Runs that
// are not there are zero.
template <int TYPE>
__device__ inline void unpack(const Product &p, Stage<TYPE> &to, int begin, int runs) {
  using C = Codes<TYPE>;
  int b = begin + threadIdx.x % STEP;
#pragma unroll
  for (int o = threadIdx.x / STEP; o < TILE; o += THREADS / STEP) {
    typename C::Of w = {};
    if (b < runs) {
      size_t row = size_t(blockIdx.z) * p.part.rows + min(int(blockIdx.y) * TILE + o, p.part.rows - 1);
      typename C::Raw raw;
      read_run<TYPE>(p.part, row * runs + b, raw);
      unpack_run<TYPE>(raw, b, w);
    }
    int4 *codes = reinterpret_cast<int4 *>(&to.w[o][b % STEP * (RUN / 4)]);
    codes[0] = make_int4(w.code[0], w.code[1], w.code[2], w.code[3]);
    codes[1] = make_int4(w.code[4], w.code[5], w.code[6], w.code[7]);
#pragma unroll
    for (int s = 0; s < C::SCALES; s++) {
      to.w_scale[s][b % STEP][o] = w.scale[s];
      if (C::MINIMA) to.w_minimum[s][b % STEP][o] = w.minimum[s];
    }
  }
}

// Begins the copy of the entries' codes, and copies their scales and sums.
template <int TYPE>
__device__ inline void fetch(const Product &p, Stage<TYPE> &to, int begin, int runs) {
  using C = Codes<TYPE>;
  constexpr int PIECES = STEP * RUN / 16;
  int piece = threadIdx.x % PIECES, left = (runs - begin) * (RUN / 16);
#pragma unroll
  for (int e = threadIdx.x / PIECES; e < TILE; e += THREADS / PIECES) {
    int *x = &to.x[e][piece * 4];
    if (piece < left) {
      copy_async_16(x, p.x.q + (size_t(to.entries.x[e]) * runs + begin) * RUN + piece * 16);
    } else {
      *reinterpret_cast<int4 *>(x) = make_int4(0, 0, 0, 0);
    }
  }
  copy_async_commit();
  int b = begin + threadIdx.x % STEP;
#pragma unroll
  for (int e = threadIdx.x / STEP; e < TILE; e += THREADS / STEP) {
    size_t run = size_t(to.entries.x[e]) * runs + b;
    to.x_scale[b % STEP][e] = b < runs ? p.x.scale[run] : 0.0f;
    if (C::MINIMA) {
      int2 sum = b < runs ? reinterpret_cast<const int2 *>(p.x.sum)[run] : make_int2(0, 0);
      to.x_sum[0][b % STEP][e] = float(C::SCALES == 1 ? sum.x + sum.y : sum.x);
      if (C::SCALES == 2) to.x_sum[C::SCALES - 1][b % STEP][e] = float(sum.y);
    }
  }
}

// A warp's fragments of 16 outputs: codes of a stage's runs, and their scales for the outputs of this lane.
template <int TYPE>
struct Outputs {
  static constexpr int SCALES = Codes<TYPE>::SCALES;
  int code[STEP][4];
  float scale[STEP][2][SCALES];

  __device__ inline void load(const Stage<TYPE> &from, int first, int lane) {
    int row = first + lane / 4, word = lane % 4;
#pragma unroll
    for (int b = 0; b < STEP; b++) {
#pragma unroll
      for (int i = 0; i < 4; i++) code[b][i] = from.w[row + i % 2 * 8][b * (RUN / 4) + i / 2 * 4 + word];
#pragma unroll
      for (int h = 0; h < 2; h++) {
#pragma unroll
        for (int s = 0; s < SCALES; s++) scale[b][h][s] = from.w_scale[s][b][row + h * 8];
      }
    }
  }
};

// Half a segment's tree of the warp's outputs, from `o` on, with 8 entries from `first` on. Value 2h + k is of output
// o + lane / 4 + 8h and entry first + 2 · (lane % 4) + k, as tensor cores lay it out. Minima are not in `w`, to save registers.
template <int TYPE>
__device__ inline void half_segment(const Stage<TYPE> &from, const Outputs<TYPE> &w, int o, int first, int lane, float (&half)[4]) {
  using C = Codes<TYPE>;
  constexpr int SCALES = C::SCALES, MINIMA = C::MINIMA ? SCALES : 0;
  float pair[4];
#pragma unroll
  for (int b = 0; b < STEP; b++) {
    const int *x = &from.x[first + lane / 4][b * (RUN / 4) + lane % 4];
    int d[SCALES][4];
#pragma unroll
    for (int i = 0; i < 4 * SCALES; i++) d[i / 4][i % 4] = SUM_BEGIN;
    if constexpr (SCALES == 1) {
      mma_16x8x32(d[0], w.code[b], {x[0], x[4]});
    } else {
      mma_16x8x16(d[0], {w.code[b][0], w.code[b][1]}, {x[0]});
      mma_16x8x16(d[1], {w.code[b][2], w.code[b][3]}, {x[4]});
    }
    int at = first + lane % 4 * 2;
    float2 x_scale = *reinterpret_cast<const float2 *>(&from.x_scale[b][at]), sums[SCALES];
#pragma unroll
    for (int s = 0; s < SCALES; s++) {
      sums[s] = s < MINIMA ? *reinterpret_cast<const float2 *>(&from.x_sum[C::MINIMA ? s : 0][b][at]) : make_float2(0, 0);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
      float dot[SCALES], sum[SCALES], minimum[SCALES];
#pragma unroll
      for (int s = 0; s < SCALES; s++) {
        dot[s] = as_float(d[s][i]) - ROUND;
        sum[s] = i % 2 ? sums[s].y : sums[s].x;
        minimum[s] = s < MINIMA ? from.w_minimum[C::MINIMA ? s : 0][b][o + lane / 4 + i / 2 * 8] : 0.0f;
      }
      float v = run_value<TYPE>(w.scale[b][i / 2], minimum, dot, sum, i % 2 ? x_scale.y : x_scale.x);
      if (b == 0) half[i] = v;
      if (b == 1) half[i] += v;
      if (b == 2) pair[i] = v;
      if (b == 3) half[i] += pair[i] + v;
    }
  }
}

// Blocks that a multiprocessor should hold, which bounds registers: these types would spill with 3.
constexpr int resident(int type) { return type == Q2_K || type == Q5_1 ? 2 : 3; }

// y[e, o] = w[expert][o] · x[e / sharing]. A block makes TILE outputs of up to TILE entries of one expert, a warp 16 of the outputs.
// Grid (⌈most / TILE⌉, ⌈rows of part / TILE⌉, experts): blocks that read the same weights follow one another.
// Half a segment at a time: codes of both sides in shared memory, tensor cores, scales, half of the tree.
// Reads the weights once for each tile of entries, and q, scale and sum of the tile's entries once for each 64 outputs.
template <int TYPE>
__global__ void __launch_bounds__(THREADS, resident(TYPE)) many_kernel(Product p) {
  Stage<TYPE> &stage = shared<Stage<TYPE>>();
  int entries = gather(p, stage.entries);
  if (entries == 0) return;
  int lane = threadIdx.x % WARP, outputs = threadIdx.x / WARP * 16, runs = p.x.cols / RUN;
  float half[TILE / 8][4], total[TILE / 8][4] = {};
  for (int begin = 0; begin < runs; begin += STEP) {
    sync_block();
    fetch(p, stage, begin, runs);
    unpack(p, stage, begin, runs);
    copy_async_wait<0>();
    sync_block();
    Outputs<TYPE> w;
    w.load(stage, outputs, lane);
    bool ends = begin / STEP % 2 == 1;
#pragma unroll
    for (int n = 0; n < TILE / 8; n++) {
      if (n * 8 >= entries) break;
      float v[4];
      half_segment(stage, w, outputs, n * 8, lane, v);
#pragma unroll
      for (int i = 0; i < 4; i++) {
        if (ends) total[n][i] += half[n][i] + v[i];
        half[n][i] = v[i];
      }
    }
  }
  bool open = ceil_div(runs, STEP) % 2 == 1;  // the last segment ended with its first half
#pragma unroll
  for (int n = 0; n < TILE / 8; n++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      int e = n * 8 + lane % 4 * 2 + i % 2, o = blockIdx.y * TILE + outputs + lane / 4 + i / 2 * 8;
      if (e >= entries || o >= p.part.rows) continue;
      put(p, stage.entries.y[e], p.part.first + o, open ? total[n][i] + half[n][i] : total[n][i]);
    }
  }
}

// ---- float types

constexpr int FLOAT_THREADS = 256;

struct FloatStage {
  Entries entries;
  float w[RUN][TILE + 4];  // numbers of a run, input by input, of each output
  float x[RUN][TILE + 4];  // and of each entry
};

// As many_kernel, in f32. A thread makes 4 outputs of 4 entries, a run at a time.
template <int TYPE>
__global__ void __launch_bounds__(FLOAT_THREADS) many_floats_kernel(Product p) {
  FloatStage &stage = shared<FloatStage>();
  int entries = gather(p, stage.entries);
  if (entries == 0) return;
  int cols = p.x.cols, c = threadIdx.x % RUN, o0 = threadIdx.x % 16 * 4, e0 = threadIdx.x / 16 * 4;
  size_t expert = size_t(blockIdx.z) * p.part.rows;
  Tree trees[4][4];
#pragma unroll
  for (int i = 0; i < 16; i++) trees[i / 4][i % 4].begin();
  int runs = ceil_div(cols, RUN);
  for (int b = 0; b < ceil_div(runs, SEGMENT) * SEGMENT; b++) {
    float v[4][4] = {};
    if (b < runs) {
      sync_block();
      int at = b * RUN + c;
      for (int i = threadIdx.x / RUN; i < TILE; i += FLOAT_THREADS / RUN) {
        size_t row = expert + min(int(blockIdx.y) * TILE + i, p.part.rows - 1);
        stage.w[c][i] = at < cols ? number<TYPE>(p.part.plane[0], row * cols + at) : 0.0f;
        stage.x[c][i] = at < cols ? p.x.x[size_t(stage.entries.x[i]) * cols + at] : 0.0f;
      }
      sync_block();
#pragma unroll 8
      for (int k = 0; k < RUN; k++) {
        float4 w = *reinterpret_cast<const float4 *>(&stage.w[k][o0]), x = *reinterpret_cast<const float4 *>(&stage.x[k][e0]);
        const float ws[4] = {w.x, w.y, w.z, w.w}, xs[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
        for (int i = 0; i < 16; i++) v[i / 4][i % 4] = fmaf(ws[i % 4], xs[i / 4], v[i / 4][i % 4]);
      }
    }
#pragma unroll
    for (int i = 0; i < 16; i++) trees[i / 4][i % 4].add(b, v[i / 4][i % 4]);
  }
#pragma unroll
  for (int i = 0; i < 16; i++) {
    int e = e0 + i / 4, o = blockIdx.y * TILE + o0 + i % 4;
    if (e < entries && o < p.part.rows) put(p, stage.entries.y[e], p.part.first + o, trees[i / 4][i % 4].total);
  }
}

template <int TYPE>
static int launch_type(Device *device, const Product &p) {
  dim3 grid(ceil_div(p.most, TILE), ceil_div(p.part.rows, TILE), p.order ? p.experts : 1);
  if constexpr (is_float(TYPE)) {
    return launch(device, PRODUCT[TYPE], many_floats_kernel<TYPE>, grid, FLOAT_THREADS, sizeof(FloatStage), p);
  } else {
    return launch(device, PRODUCT[TYPE], many_kernel<TYPE>, grid, THREADS, sizeof(Stage<TYPE>), p);
  }
}

int matmul_many(Device *device, const Product &p) { CODER_BY_TYPE(p.part.type, launch_type, device, p) }

}  // namespace CODER_NAMESPACE
