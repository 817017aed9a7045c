// What every kernel file includes: the C interface, the device's words, and how a kernel is launched.
//
// Kernels never call CUDA's intrinsics themselves. The words below have two bodies, one for nvcc (device.cuh) and
// one in plain C++ (emu/device.h), so that the same sources run on a card and, lane by lane and with every access
// checked, on a processor.
//
//   sync_block() sync_warp()              barriers of the block's threads, of the warp's lanes
//   shuffle(v, lane) shuffle_xor(v, mask) v of another lane of the warp; all 32 lanes take part
//   vote_any(p)                           whether p is true in any lane
//   transpose_halves(word)                of the warp's 8 × 8 halves, of which lane 4 · r + c has those of row r and columns 2c, 2c + 1
//   permute(a, b, selector)               byte i is byte (selector >> 4i & 7) of the eight of a and b
//   signed_byte(word, i)                  byte i of the word, as a number
//   dot4(a, b, c)                         c + Σ a.i8[j] · b.i8[j], j < 4
//   mma_16x8x32(d, a, b, c) mma_16x8x16   d = a · b + c of one warp, c everywhere: int8 in PTX's fragments of mma.m16n8k32 and
//                                         k16, i32 sums
//   mma_halves_16x8x8(d, a, b, c)         the same of halves, two to a word, in the fragments of m16n8k8, f32 sums
//   mma_halves_16x8x16(d, a, b, c)        d = a · b + c of halves in m16n8k16's fragments, c one of them
//   allow_next()                          the next launch may begin: its blocks come when all blocks of this one have said so, so
//                                         they take no place that one of these still needs
//   await_previous()                      waits for the end of the launch before; what it wrote can be read, what it read written.
//                                         Every thread of every kernel does, and touches the device's memory behind it only:
//                                         then the end of a launch is also that of all launches before it
//   fetch_ahead(global, bytes)            asks the second cache for what will be read, whole 16 bytes; cards before 9.0 do nothing. No
//                                         access to memory: it may come ahead of await_previous, if the place needs nothing that
//                                         a launch has written
//   copy_async_16(shared, global)         16 bytes without a register; copy_async_commit(), copy_async_wait<N>()
//   __grid_constant__                     of an operand by value: read in place, also by an index, and not copied
//   shared<T>()                           the block's shared memory as a T, the only way to have any
//   works(tail) finish(tail)              of a launch with a tail: what needs the results of all blocks, done by the last
//                                         few to finish. All threads of all blocks call `finish`; of the tail's blocks it gives
//                                         the index, and all that the launch wrote before can be read, of others -1. `works` is
//                                         what a block's part of the launch asks for first: nothing but memory survives `finish`
//   half_to_float(bits) float_to_half(x)  IEEE binary16; ties to even
//   pack_halves(x, y) add_halves(a, b)    two in a word, the first in its low half; ties to even
//   as_float(bits) as_bits(float)
//
// Contraction is off in both bodies (-fmad=false, -ffp-contract=off): what is fused says fmaf. With the operations above exact
// or correctly rounded, a card and the emulator then agree bit for bit, but for sums of mma_halves_16x8x16 that are not exact: a
// card's round in ways that no document tells, the same for every row and column. One kernel's rows have the same bits on one card,
// and tests of what is behind such sums, attention, have a tolerance that allows for it.
#pragma once

#include "api.h"

#ifdef CODER_EMULATOR
#include "emu/device.h"
#else
#include "device.cuh"
#endif

// All names of the library lie in one namespace for each of its two builds, which may be linked into one program.
namespace CODER_NAMESPACE {

constexpr int WARP = 32;

// Columns that products of quantized weights go by: a run, and four of them.
constexpr int RUN = 32, UNIT = 128, UNIT_RUNS = UNIT / RUN;

constexpr __host__ __device__ int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Two halves of a word.
__device__ inline float low_half(uint32_t both) { return half_to_float(uint16_t(both)); }
__device__ inline float high_half(uint32_t both) { return half_to_float(uint16_t(both >> 16)); }

// What a kernel begins with.
__device__ inline void follow() {
  allow_next();
  await_previous();
}

// Σ over the warp's lanes, the same bits in every lane.
__device__ inline float warp_sum(float v) {
#pragma unroll
  for (int m = WARP / 2; m > 0; m /= 2) v += shuffle_xor(v, m);
  return v;
}

__device__ inline float warp_max(float v) {
#pragma unroll
  for (int m = WARP / 2; m > 0; m /= 2) v = fmaxf(v, shuffle_xor(v, m));
  return v;
}

// Σ over the lanes up to one's own.
__device__ inline int warp_sum_upto(int v) {
  int lane = threadIdx.x % WARP;
#pragma unroll
  for (int d = 1; d < WARP; d *= 2) {
    int before = shuffle(v, max(lane - d, 0));
    if (lane >= d) v += before;
  }
  return v;
}

// A launcher's operands that no kernel takes.
int refuse(const char *why);

// The functions of api.h, each defined in the file of its family.
int embed(Device *, const Rows *x, const Matrix *table, const Batch *);
int rms_norm(Device *, const Rows *y, const Rows *x, const float *w, float eps);
int quantize(Device *, const Rows *x);
int matmul(Device *, const Rows *y, const Rows *x, const Matrix *w, int32_t adds, const Norm *next);
int bias(Device *, const Rows *x, const float *b);
int rope(Device *, const Rows *qkv, const Cache *, const Rotation *, const Batch *);
int attention(Device *, const Rows *y, const Rows *qkv, const Cache *, const Batch *, const Partials *);
int add(Device *, const Rows *x, const Rows *y);
int swiglu(Device *, const Rows *y, const Rows *gate_up);
int route(Device *, const Routes *, const Rows *logits);
int matmul_experts(Device *, const Rows *y, const Rows *x, const Matrix *w, const Routes *, int32_t shared);
int matmul_swiglu(Device *, const Rows *y, const Rows *x, const Matrix *w, const Routes *, const Rows *gate_up);
int matmul_experts_mix(Device *, const Rows *x, const Rows *y, const Matrix *w, const Routes *, const Rows *h,
                       const Norm *next);
int matmul_route(Device *, const Routes *, const Rows *logits, const Rows *x, const Matrix *w);
int matmul_rope(Device *, const Rows *qkv, const Rows *x, const Matrix *w, const Cache *, const Rotation *, const Batch *);
int mix_experts(Device *, const Rows *x, const Rows *y, const Routes *);
int select(Device *, const Rows *y, const Rows *x, const Batch *);
int choose(Device *, const Rows *logits, const Choices *);

}  // namespace CODER_NAMESPACE

// The operations in the order of the table in api.h.
#define CODER_OPERATIONS                                                                                         \
  CODER_NAMESPACE::embed, CODER_NAMESPACE::rms_norm, CODER_NAMESPACE::quantize, CODER_NAMESPACE::matmul,           \
      CODER_NAMESPACE::bias, CODER_NAMESPACE::rope, CODER_NAMESPACE::attention, CODER_NAMESPACE::add,              \
      CODER_NAMESPACE::swiglu, CODER_NAMESPACE::route, CODER_NAMESPACE::matmul_experts,                            \
      CODER_NAMESPACE::matmul_swiglu, CODER_NAMESPACE::matmul_experts_mix, CODER_NAMESPACE::matmul_route,          \
      CODER_NAMESPACE::matmul_rope, CODER_NAMESPACE::mix_experts,                                                  \
      CODER_NAMESPACE::select, CODER_NAMESPACE::choose
