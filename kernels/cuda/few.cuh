// What the kernels of few rows share: weights stream by once, unpacked in registers, and memory is what limits.
//
// A warp makes some outputs of some rows: lane l has runs l, l + 32, …, so eight lanes have a segment. Each run of weights is
// read one step ahead.
#pragma once

#include "matmul.cuh"

namespace CODER_NAMESPACE {

constexpr int WARPS = 4;

// Blocks of WARPS that a multiprocessor should hold: 80 registers a thread (some types need more), 128 or 168, which loads under
// way are to fill. Without a bound the compiler aims lower on its own account, and spills.
constexpr __host__ __device__ int resident(int type, int rows) {
  bool large = type == Q2_K || (rows == 2 && (type == Q3_K || type == Q4_K || type == Q5_K || type == Q6_K));
  return rows <= 2 ? (large ? 5 : 6) : rows <= 4 ? 4 : 3;
}

// Outputs that a warp makes together: loads in flight where there are few rows to work on. A run of floats is enough of them,
// and float weights are often small, such as a router's: then as many warps as there can be.
constexpr __host__ __device__ int outputs_of(int type, int rows) { return rows <= 2 && !is_float(type) ? 2 : 1; }

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

// The products of outputs o with entries' rows `row` of x, in all lanes; lane l < OUTPUTS · ROWS holds number place<…>(l), of
// output number / ROWS and entry number % ROWS. Outputs are all of one part, or each of its own.
template <int TYPE, int ROWS, int OUTPUTS, int FROM>
__device__ inline float totals(const Product &p, const Part (&part)[FROM], const size_t (&o)[OUTPUTS],
                               const size_t (&row)[ROWS], int lane) {
  static_assert(FROM == 1 || FROM == OUTPUTS, "a part for all outputs, or one for each");
  constexpr int N = OUTPUTS * ROWS;
  using R = RunOf<TYPE, ROWS>;
  int runs = ceil_div(p.x.cols, RUN);
  typename R::Raw ahead[OUTPUTS];
#pragma unroll
  for (int i = 0; i < OUTPUTS; i++) R::read(p, part[i % FROM], o[i], min(lane, runs - 1), ahead[i]);
  float total = 0.0f;
  for (int begin = 0; begin < runs; begin += WARP) {
    // Lanes behind the last run repeat it and drop the result: a branch would keep loads from moving ahead.
    int b = min(begin + lane, runs - 1);
    float v[N];
#pragma unroll
    for (int i = 0; i < OUTPUTS; i++) {
      typename R::Raw raw = ahead[i];
      R::read(p, part[i % FROM], o[i], min(begin + WARP + lane, runs - 1), ahead[i]);
      R::values(p, part[i % FROM], raw, o[i], b, row, v + i * ROWS);
    }
#pragma unroll
    for (int i = 0; i < N; i++) v[i] = begin + lane < runs ? v[i] : 0.0f;
    float segment = tree<N>(v, lane);
#pragma unroll
    for (int g = 0; g < WARP; g += SEGMENT) total += shuffle(segment, g + lane % SEGMENT);
  }
  return total;
}

// The rows of x of a group's entries; a short group repeats its last.
template <int ROWS>
__device__ inline void rows_of(const Product &p, int group, size_t (&row)[ROWS]) {
#pragma unroll
  for (int r = 0; r < ROWS; r++) row[r] = min(group * ROWS + r, p.entries - 1) / p.sharing;
}

// y[e, o] = w[expert of e][o] · x[e / sharing] for ROWS entries of a group, or with experts for one, by block number `block` of
// a part: a warp makes outputs_of(TYPE, ROWS) outputs.
template <int TYPE, int ROWS>
__device__ inline void few(const Product &p, const Part &own, int group, int block) {
  constexpr int OUTPUTS = outputs_of(TYPE, ROWS), N = OUTPUTS * ROWS;
  int lane = threadIdx.x % WARP, first = (block * WARPS + threadIdx.x / WARP) * OUTPUTS;
  if (first >= own.rows) return;
  size_t from = p.expert ? size_t(p.expert[group]) * own.rows : 0;
  size_t row[ROWS], o[OUTPUTS];
  rows_of<ROWS>(p, group, row);
#pragma unroll
  for (int i = 0; i < OUTPUTS; i++) o[i] = from + min(first + i, own.rows - 1);
  const Part part[1] = {own};
  float total = totals<TYPE, ROWS>(p, part, o, row, lane);
  int to = first + place<N>(lane) / ROWS, e = group * ROWS + place<N>(lane) % ROWS;
  if (lane < N && to < own.rows && e < p.entries) put(p, e, own.first + to, total);
}

}  // namespace CODER_NAMESPACE
