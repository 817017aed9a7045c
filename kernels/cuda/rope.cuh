// Rotary position embedding (Su et al., "RoFormer", 2021; half-split, as GPT-NeoX and Qwen have it), the norm of heads
// before it, and the writing of keys and values: the arithmetic, for its kernel and for the tail of the product that makes the rows.
#pragma once

#include "cache.cuh"
#include "common.cuh"

namespace CODER_NAMESPACE {

constexpr int PAIRS = MAX_HEAD / 2 / WARP;  // of a lane, at most

// Of a block of HEADS warps, each with a head of one row at a time.
template <int HEADS>
struct Angles {
  float cosine[MAX_HEAD / 2], sine[MAX_HEAD / 2];
  float key[HEADS][MAX_HEAD];  // rotated, for lanes that keep other columns than they rotated
};

// Cosine and sine of `angle`, within one unit of the last place. The angle is brought to ±π/4 in f64, with π/2 in two
// parts, and stays in two f32; from there fdlibm's way and Cephes' polynomials for f32. Not a library's: its way for
// large angles takes local memory.
__device__ inline void turn(double angle, float &cosine, float &sine) {
  const double ROUND = 6755399441055744.0;  // 1.5 · 2^52: adding it rounds to a whole number
  double n = (angle * 0.63661977236758134308 + ROUND) - ROUND;
  double r = fma(n, -6.123233995736766036e-17, fma(n, -1.5707963267948965580, angle));
  float x = float(r), rest = float(r - double(x));
  float z = x * x;
  float p = fmaf(fmaf(-1.9515295891e-4f, z, 8.3321608736e-3f), z, -1.6666654611e-1f);
  float s = x + fmaf(p, z * x, rest);
  float q = fmaf(fmaf(2.443315711809948e-5f, z, -1.388731625493765e-3f), z, 4.166664568298827e-2f);
  // 1 - z/2 loses a digit that is put back, as are those of x² beyond z.
  float half = 0.5f * z, w = 1.0f - half;
  float lost = ((1.0f - w) - half) - fmaf(0.5f, fmaf(x, x, -z), x * rest);
  float c = w + fmaf(q, z * z, lost);
  int quarter = int(int64_t(n) & 3);
  float swapped_s = quarter & 1 ? c : s, swapped_c = quarter & 1 ? s : c;
  sine = quarter & 2 ? -swapped_s : swapped_s;
  cosine = quarter == 1 || quarter == 2 ? -swapped_c : swapped_c;
}

// The whole number that times the scale is nearest to x, ties to even. 0 for a run of zeros, or of numbers too small
// for any scale. Where the scale is not finite, nothing of the run is when it is read, whatever is made of it here.
__device__ inline int8_t quantize_entry(float x, float scale) {
  const float ROUND = 12582912.0f;
  float n = scale > 0.0f ? x / scale : 0.0f;
  if (n != n) return 0;
  return int8_t(as_bits(fminf(fmaxf(n, -127.0f), 127.0f) + ROUND) & 0xff);
}

// Keeps one head of one position, of which a lane that reads it has `each` columns of a run. All lanes of the warp take part: a
// lane one column of each run.
__device__ inline void keep(void *entries, uint16_t *scales, int type, size_t place, int dim, const float *from, int each) {
  int lane = threadIdx.x % WARP;
  for (int run = 0; run < ceil_div(dim, CACHE_RUN); run++) {
    int c = run * CACHE_RUN + lane;
    bool inside = c < dim;
    float v = inside ? from[c] : 0.0f;
    size_t at = place * dim + c;
    if (type == CACHE_F32) {
      if (inside) static_cast<float *>(entries)[at] = v;
    } else if (type == CACHE_F16) {
      if (inside) static_cast<uint16_t *>(entries)[at] = float_to_half(v);
    } else {
      // The maximum passes over what is no number; the scale must not.
      bool odd = vote_any(v != v);
      float largest = warp_max(fabsf(v));
      uint16_t scale = float_to_half(odd ? as_float(0x7fc00000u) : largest / 127.0f);
      if (is_whole(dim)) at = place * dim + in_lanes(c, dim, each);
      if (inside) static_cast<int8_t *>(entries)[at] = quantize_entry(v, half_to_float(scale));
      if (lane == 0) scales[place * ceil_div(dim, CACHE_RUN) + run] = scale;
    }
  }
}

// Adds `bias` [dim] to the head x [dim] and normalises it with `norm` [dim], if they are given, and rotates it where it
// stands and into `copy` [dim]. All lanes of the warp take part: a lane the pairs lane, lane + 32, ….
__device__ inline void rotate(float *x, float *copy, int dim, const float *bias, const float *norm, float eps,
                              const float *cosine, const float *sine) {
  int lane = threadIdx.x % WARP, half = dim / 2;
  float low[PAIRS], high[PAIRS];
  float squares = 0.0f;
#pragma unroll
  for (int j = 0; j < PAIRS; j++) {
    int i = lane + j * WARP;
    low[j] = i < half ? x[i] : 0.0f;
    high[j] = i < half ? x[i + half] : 0.0f;
    if (bias && i < half) low[j] += bias[i], high[j] += bias[i + half];
    squares = fmaf(high[j], high[j], fmaf(low[j], low[j], squares));
  }
  float scale = norm ? 1.0f / sqrtf(warp_sum(squares) / float(dim) + eps) : 1.0f;
#pragma unroll
  for (int j = 0; j < PAIRS; j++) {
    int i = lane + j * WARP;
    if (i >= half) continue;
    float a = norm ? low[j] * scale * norm[i] : low[j];
    float b = norm ? high[j] * scale * norm[i + half] : high[j];
    float c = cosine[i], s = sine[i];
    x[i] = copy[i] = a * c - b * s;
    x[i + half] = copy[i + half] = b * c + a * s;
  }
}

// The angles of a row, by the block's first dim / 2 threads; a barrier before and behind it.
template <int HEADS>
__device__ inline void turn_row(Angles<HEADS> &angles, const Rotation &rotation, int position, int dim) {
  if (int(threadIdx.x) >= dim / 2) return;
  turn(double(position) * rotation.radians[threadIdx.x], angles.cosine[threadIdx.x], angles.sine[threadIdx.x]);
}

// The bias of a row's head, norm and rotation in place if it is of q or k, and k and v to the row's slot (none if -1), by this
// thread's warp.
template <int HEADS>
__device__ inline void turn_head(Angles<HEADS> &angles, float *qkv, const Cache &cache, const Rotation &rotation, int row, int head, int slot) {
  int dim = cache.dim, heads = cache.q_heads + 2 * cache.kv_heads;
  float *x = qkv + (size_t(row) * heads + head) * dim, *key = angles.key[threadIdx.x / WARP];
  int kv_head = head - cache.q_heads;
  bool value = kv_head >= cache.kv_heads;
  const float *norm = kv_head < 0 ? rotation.q_norm : rotation.k_norm;
  const float *bias = rotation.bias ? rotation.bias + head * dim : nullptr;
  if (!value) {
    rotate(x, key, dim, bias, norm, rotation.eps, angles.cosine, angles.sine);
  } else if (bias) {
    for (int c = threadIdx.x % WARP; c < dim; c += WARP) x[c] += bias[c];
  }
  if (kv_head < 0 || slot < 0) return;
  sync_warp();
  size_t place = size_t(slot) * cache.kv_heads + (value ? kv_head - cache.kv_heads : kv_head);
  if (value) {
    keep(cache.v, cache.v_scale, cache.type, place, dim, x, EACH_OF_VALUE);
  } else {
    keep(cache.k, cache.k_scale, cache.type, place, dim, key, EACH_OF_KEY);
  }
}

// Why rows cannot be rotated, or null.
inline const char *not_rotated(const Rows &qkv, const Cache &cache) {
  int heads = cache.q_heads + 2 * cache.kv_heads;
  if (cache.dim % 2 || cache.dim > MAX_HEAD) return "rope: columns of a head are odd or too many";
  return qkv.cols == heads * cache.dim ? nullptr : "rope: rows are not queries, keys and values";
}

}  // namespace CODER_NAMESPACE
