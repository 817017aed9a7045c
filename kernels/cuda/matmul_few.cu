// Products with few rows: weights stream by once, unpacked in registers, and memory is what limits.
#include "matmul.cuh"

namespace CODER_NAMESPACE {

constexpr int WARPS = 4;

// Blocks that a multiprocessor should hold: 80 registers a thread, 128 or 168, which loads under way are to fill. Without
// a bound the compiler aims lower on its own account, and spills.
constexpr __host__ __device__ int resident(int type, int rows) {
  return rows <= 2 ? (type == Q2_K ? 5 : 6) : rows <= 4 ? 4 : 3;
}

// Outputs that a warp makes together: loads in flight where there are few rows to work on.
constexpr __host__ __device__ int outputs_of(int rows) { return rows <= 2 ? 2 : 1; }

// Blocks that make a part's outputs.
template <int ROWS>
__host__ __device__ inline int blocks_of(const Part &part) {
  return ceil_div(part.rows, WARPS * outputs_of(ROWS));
}

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

// How a warp works on one run of an output: `Raw` is what it reads ahead of it, `values` are the run's with each of the
// rows, `row` are theirs in x.
template <int TYPE, int ROWS, bool FLOAT = is_float(TYPE)>
struct RunOf {
  using C = Codes<TYPE>;
  using Raw = typename C::Raw;

  static __device__ inline void read(const Product &p, const Part &part, size_t o, int b, Raw &to) {
    read_run<TYPE>(part, o * (p.x.cols / RUN) + b, to);
  }

  static __device__ inline void values(const Product &p, const Part &, const Raw &raw, size_t, int b, const size_t (&row)[ROWS], float *v) {
    typename C::Of w;
    unpack_run<TYPE>(raw, b, w);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      size_t run = row[r] * (p.x.cols / RUN) + b;
      const int4 *q = reinterpret_cast<const int4 *>(p.x.q + run * RUN);
      int4 lo = q[0], hi = q[1];
      int x[8] = {lo.x, lo.y, lo.z, lo.w, hi.x, hi.y, hi.z, hi.w}, dots[2] = {};
#pragma unroll
      for (int i = 0; i < 8; i++) dots[i / 4] = dot4(w.code[i], x[i], dots[i / 4]);
      int2 sums = C::MINIMA ? reinterpret_cast<const int2 *>(p.x.sum)[run] : make_int2(0, 0);
      float dot[C::SCALES], sum[C::SCALES];
      if constexpr (C::SCALES == 1) {
        dot[0] = float(dots[0] + dots[1]), sum[0] = float(sums.x + sums.y);
      } else {
        dot[0] = float(dots[0]), dot[1] = float(dots[1]), sum[0] = float(sums.x), sum[1] = float(sums.y);
      }
      v[r] = run_value<TYPE>(w.scale, w.minimum, dot, sum, p.x.scale[run]);
    }
  }
};

// The float types read nothing ahead: 32 numbers are too many registers.
template <int TYPE, int ROWS>
struct RunOf<TYPE, ROWS, true> {
  struct Raw {};

  static __device__ inline void read(const Product &, const Part &, size_t, int, Raw &) {}

  static __device__ inline void values(const Product &p, const Part &part, const Raw &, size_t o, int b, const size_t (&row)[ROWS], float *v) {
    constexpr int N = TYPE == F32 ? 4 : 8;
    int cols = p.x.cols;
    bool wide = cols % N == 0;
#pragma unroll
    for (int r = 0; r < ROWS; r++) v[r] = 0.0f;
#pragma unroll
    for (int i = 0; i < RUN; i += N) {
      int c = b * RUN + i, left = cols - c;
      float w[N], x[N];
      numbers<TYPE>(part.plane[0], o * cols + c, left, wide, w);
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        numbers<F32>(reinterpret_cast<const uint8_t *>(p.x.x), row[r] * cols + c, left, wide, x);
#pragma unroll
        for (int k = 0; k < N; k++) v[r] = fmaf(w[k], x[k], v[r]);
      }
    }
  }
};

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

// y[e, o] = w[expert of e][o] · x[e / sharing] for ROWS entries at a time, or with experts for one.
// A warp makes OUTPUTS outputs of ROWS entries: lane l has runs l, l + 32, …, so eight lanes have a segment.
// Grid Σ ⌈rows of part / (WARPS · OUTPUTS)⌉ · groups of entries, those of the same weights side by side. No shared memory.
// Reads each run of weights one step ahead, all of them once for each group (from the second on out of a cache), q and scales of x from a cache.
template <int TYPE, int ROWS>
__global__ void __launch_bounds__(WARPS *WARP, resident(TYPE, ROWS)) few_kernel(Product p, int groups) {
  constexpr int OUTPUTS = outputs_of(ROWS), N = OUTPUTS * ROWS;
  using R = RunOf<TYPE, ROWS>;
  int lane = threadIdx.x % WARP, group = blockIdx.x % groups, block = blockIdx.x / groups;
  Part part = p.part[0];
#pragma unroll
  for (int i = 1; i < PARTS; i++) {
    int before = blocks_of<ROWS>(part);
    if (i < p.parts && block >= before) block -= before, part = p.part[i];
  }
  int first = (block * WARPS + threadIdx.x / WARP) * OUTPUTS;
  if (first >= part.rows) return;
  size_t from = p.expert ? size_t(p.expert[group]) * part.rows : 0;
  size_t row[ROWS], o[OUTPUTS];
#pragma unroll
  for (int r = 0; r < ROWS; r++) row[r] = min(group * ROWS + r, p.entries - 1) / p.sharing;
  int runs = ceil_div(p.x.cols, RUN);
  typename R::Raw ahead[OUTPUTS];
#pragma unroll
  for (int i = 0; i < OUTPUTS; i++) {
    o[i] = from + min(first + i, part.rows - 1);
    R::read(p, part, o[i], min(lane, runs - 1), ahead[i]);
  }
  float total = 0.0f;
  for (int begin = 0; begin < runs; begin += WARP) {
    // Lanes behind the last run repeat it and drop the result: a branch would keep loads from moving ahead.
    int b = min(begin + lane, runs - 1);
    float v[N];
#pragma unroll
    for (int i = 0; i < OUTPUTS; i++) {
      typename R::Raw raw = ahead[i];
      R::read(p, part, o[i], min(begin + WARP + lane, runs - 1), ahead[i]);
      R::values(p, part, raw, o[i], b, row, v + i * ROWS);
    }
#pragma unroll
    for (int i = 0; i < N; i++) v[i] = begin + lane < runs ? v[i] : 0.0f;
    float segment = tree<N>(v, lane);
#pragma unroll
    for (int g = 0; g < WARP; g += SEGMENT) total += shuffle(segment, g + lane % SEGMENT);
  }
  int to = first + place<N>(lane) / ROWS, e = group * ROWS + place<N>(lane) % ROWS;
  if (lane < N && to < part.rows && e < p.entries) put(p, part, e, to, total);
}

template <int TYPE, int ROWS>
static int launch_rows(Device *device, const Product &p) {
  int groups = ceil_div(p.entries, ROWS);
  int blocks = 0;
  for (int i = 0; i < p.parts; i++) blocks += blocks_of<ROWS>(p.part[i]);
  return launch(device, PRODUCT[TYPE], few_kernel<TYPE, ROWS>, dim3(unsigned(blocks) * groups), WARPS * WARP, 0, p, groups);
}

template <int TYPE>
static int launch_type(Device *device, const Product &p) {
  if (p.expert || p.entries == 1) return launch_rows<TYPE, 1>(device, p);
  if (p.entries == 2) return launch_rows<TYPE, 2>(device, p);
  if (p.entries <= 4) return launch_rows<TYPE, 4>(device, p);
  return launch_rows<TYPE, 8>(device, p);
}

int matmul_few(Device *device, const Product &p) { CODER_BY_TYPE(p.part[0].type, launch_type, device, p) }

}  // namespace CODER_NAMESPACE
