// The device's words for nvcc; common.cuh says what they mean.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <type_traits>

#define CODER_NAMESPACE coder_cuda

namespace CODER_NAMESPACE {

__device__ inline void sync_block() { __syncthreads(); }
__device__ inline void sync_warp() { __syncwarp(); }

template <typename T>
__device__ inline T shuffle(T v, int lane) {
  return __shfl_sync(0xffffffffu, v, lane);
}
template <typename T>
__device__ inline T shuffle_xor(T v, int mask) {
  return __shfl_xor_sync(0xffffffffu, v, mask);
}
__device__ inline bool vote_any(bool p) { return __any_sync(0xffffffffu, p); }

__device__ inline uint32_t transpose_halves(uint32_t word) {
  uint32_t to;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(to) : "r"(word));
  return to;
}

__device__ inline int dot4(int a, int b, int c) { return __dp4a(a, b, c); }
__device__ inline uint32_t permute(uint32_t a, uint32_t b, uint32_t selector) { return __byte_perm(a, b, selector); }

__device__ inline int signed_byte(uint32_t word, int i) {
  int byte;
  asm("prmt.b32 %0, %1, 0, %2;" : "=r"(byte) : "r"(word), "r"(i * 0x1111 | 0x8880));
  return byte;
}

__device__ inline void mma_16x8x32(int (&d)[4], const int (&a)[4], const int (&b)[2], int c) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
      : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(c));
}
__device__ inline void mma_16x8x16(int (&d)[4], const int (&a)[2], const int (&b)[1], int c) {
  asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%7,%7,%7};"
      : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(b[0]), "r"(c));
}
__device__ inline void mma_halves_16x8x8(float (&d)[4], const uint32_t (&a)[2], uint32_t b, float c) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%7,%7,%7};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(b), "f"(c));
}
__device__ inline void mma_halves_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const float (&c)[4]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
}

// Launches overlap on cards from 9.0 on (programmatic dependent launch); on others there is nothing to do. Loads are of the coherent
// kind behind the wait: compiled.py watches that the compiler makes no others.
__device__ inline void allow_next() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ inline void await_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ inline void fetch_ahead(const void *from, uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(from)), "r"(bytes));
#endif
}

__device__ inline void copy_async_16(void *to_shared, const void *from_global) {
  unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(to_shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from_global) : "memory");
}
__device__ inline void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING>
__device__ inline void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// How the blocks of a launch find out that all have finished: `count` is how many have, and begins again from 0 with the last.
// Blocks that finish last wait for that; those are fewer than a card runs at once, whatever others do, so all finish.
// Launches that overlap change nothing about that: blocks of the next one come when all of this one's have begun, so they take no
// place that one of these still waits for; and blocks of the launch before, which may hold places, have all begun, wait for
// one another alone and end. The next launch touches `count` when this one has ended.
struct Tail {
  unsigned *count;
  int blocks;  // 0 for none
};
struct Share {
  int index, of;
};

__device__ inline bool works(const Tail &) { return true; }

__device__ inline Share finish(const Tail &tail) {
  if (tail.blocks == 0) return {-1, 0};
  __shared__ int index;
  int all = int(gridDim.x * gridDim.y * gridDim.z), of = tail.blocks < all ? tail.blocks : all;
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    int before = int(atomicInc(tail.count, unsigned(all) - 1));
    index = before < all - of ? -1 : before - (all - of);
    // Others leave at once: a block that waits here keeps the place of one that would read weights.
    if (index >= 0) {
      while (*static_cast<volatile unsigned *>(tail.count) != 0) __nanosleep(32);
      __threadfence();
    }
  }
  __syncthreads();
  return {index, of};
}

template <typename T>
__device__ inline T &shared() {
  extern __shared__ __align__(128) unsigned char coder_shared[];
  return *reinterpret_cast<T *>(coder_shared);
}

__device__ inline float half_to_float(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
__device__ inline uint16_t float_to_half(float x) { return __half_as_ushort(__float2half_rn(x)); }
__device__ inline uint32_t pack_halves(float x, float y) {
  __half2 halves = __floats2half2_rn(x, y);
  return *reinterpret_cast<const uint32_t *>(&halves);
}
__device__ inline uint32_t add_halves(uint32_t a, uint32_t b) {
  __half2 sum = __hadd2(*reinterpret_cast<const __half2 *>(&a), *reinterpret_cast<const __half2 *>(&b));
  return *reinterpret_cast<const uint32_t *>(&sum);
}
__device__ inline float as_float(uint32_t bits) { return __uint_as_float(bits); }
__device__ inline uint32_t as_bits(float x) { return __float_as_uint(x); }

// What a failed call of the runtime means; remembers its words for `message`.
int failure(cudaError_t error, const char *what);

// A tail of at most `blocks` blocks, for one launch.
Tail tail_of(Device *, int blocks);
int multiprocessors(const Device *);

// Puts a kernel on the device's stream, with the addresses of its operands.
int launch_kernel(Device *, const char *name, const void *kernel, dim3 grid, int threads, size_t shared_bytes, void **operands);

template <typename... Formal, typename... Actual>
int launch(Device *device, const char *name, void (*kernel)(Formal...), dim3 grid, int threads, size_t shared_bytes, Actual... args) {
  auto put = [&](Formal... operands) {
    void *addresses[] = {&operands...};
    return launch_kernel(device, name, reinterpret_cast<const void *>(kernel), grid, threads, shared_bytes, addresses);
  };
  return put(static_cast<Formal>(args)...);
}

}  // namespace CODER_NAMESPACE
