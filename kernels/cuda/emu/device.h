// The device's words in plain C++, for a processor; common.cuh says what they mean.
//
// Beside the words there is what kernels use of CUDA's language itself: its qualifiers, threadIdx and its kin, small
// vectors, and those functions of its library that are exact or correctly rounded. Whatever else a card has is missing
// here on purpose, <math.h> included: a kernel that uses it does not compile. The bodies behind these declarations are
// in fibers.cpp (barriers, warps, launches) and access.cpp (memory).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <type_traits>

#define CODER_NAMESPACE coder_emu

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

// Variables on a card, made of calls here because reads of a variable would be checked like any other: calls whose
// results the compiler may keep, or never ask for. Blocks have one dimension.
#define threadIdx (::coder_emu::uint3{::coder_emu::thread_x(), 0, 0})
#define blockIdx (::coder_emu::uint3{::coder_emu::block_at(0), ::coder_emu::block_at(1), ::coder_emu::block_at(2)})
#define blockDim (::coder_emu::uint3{::coder_emu::threads_of_block(), 1, 1})
#define gridDim (::coder_emu::uint3{::coder_emu::blocks_of_grid(0), ::coder_emu::blocks_of_grid(1), ::coder_emu::blocks_of_grid(2)})

namespace CODER_NAMESPACE {

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// Aligned as a card demands it of its wide loads; a misaligned one is an error.
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

__attribute__((const)) unsigned thread_x() noexcept;
__attribute__((const)) unsigned block_at(int axis) noexcept;
__attribute__((const)) unsigned threads_of_block() noexcept;
__attribute__((const)) unsigned blocks_of_grid(int axis) noexcept;

// ---- numbers

inline float as_float(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}
inline uint32_t as_bits(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}

inline float fmaf(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
inline float sqrtf(float x) { return __builtin_sqrtf(x); }
inline double sqrt(double x) { return __builtin_sqrt(x); }
inline float fabsf(float x) { return __builtin_fabsf(x); }
inline double fabs(double x) { return __builtin_fabs(x); }
inline float rintf(float x) { return __builtin_rintf(x); }
inline double rint(double x) { return __builtin_rint(x); }
inline float floorf(float x) { return __builtin_floorf(x); }
inline double floor(double x) { return __builtin_floor(x); }

// A card's: the number where one of the two is none, and +0 is above -0.
inline float fmaxf(float a, float b) {
  if (a != a) return b != b ? as_float(0x7fffffff) : b;
  if (a == b) return as_float(as_bits(a) & as_bits(b));
  return a < b ? b : a;
}
inline float fminf(float a, float b) {
  if (a != a) return b != b ? as_float(0x7fffffff) : b;
  if (a == b) return as_float(as_bits(a) | as_bits(b));
  return b < a ? b : a;
}

#define CODER_MIN_MAX(T)                                      \
  constexpr inline T min(T a, T b) { return b < a ? b : a; } \
  constexpr inline T max(T a, T b) { return a < b ? b : a; }
CODER_MIN_MAX(int)
CODER_MIN_MAX(unsigned)
CODER_MIN_MAX(long)
CODER_MIN_MAX(unsigned long)
CODER_MIN_MAX(long long)
CODER_MIN_MAX(unsigned long long)
#undef CODER_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }

// The product with 2^112 moves the exponent's bias from 15 to 127, and normalises what was subnormal; it is exact.
inline float half_to_float(uint16_t bits) {
  uint32_t sign = uint32_t(bits & 0x8000) << 16, rest = uint32_t(bits & 0x7fff) << 13;
  if ((bits & 0x7c00) == 0x7c00) return as_float(bits & 0x3ff ? 0x7fffffff : sign | 0x7f800000);
  return as_float(sign | as_bits(as_float(rest) * as_float(0x77800000)));
}

inline uint16_t float_to_half(float x) {
  uint32_t bits = as_bits(x), sign = (bits >> 16) & 0x8000, rest = bits & 0x7fffffff;
  if (rest > 0x7f800000) return 0x7fff;
  if (rest >= 0x477ff000) return uint16_t(sign | 0x7c00);  // 65520 and above are nearer to 2^16
  // Below 2^-14 the addition of 1/2 rounds at 2^-24, the last place of a subnormal half.
  if (rest < 0x38800000) return uint16_t(sign | (as_bits(as_float(rest) + 0.5f) - 0x3f000000));
  return uint16_t(sign | ((rest - 0x38000000 + 0xfff + ((rest >> 13) & 1)) >> 13));
}

inline uint32_t pack_halves(float x, float y) { return float_to_half(x) | uint32_t(float_to_half(y)) << 16; }
// Sums of two halves are rounded twice, which shows only where their magnitudes are 2^13 and more apart.
inline uint32_t add_halves(uint32_t a, uint32_t b) {
  float low = half_to_float(uint16_t(a)) + half_to_float(uint16_t(b));
  return pack_halves(low, half_to_float(uint16_t(a >> 16)) + half_to_float(uint16_t(b >> 16)));
}

inline uint32_t permute(uint32_t a, uint32_t b, uint32_t selector) {
  uint64_t bytes = uint64_t(b) << 32 | a;
  uint32_t to = 0;
  for (int i = 0; i < 4; i++) to |= uint32_t(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
  return to;
}
inline int signed_byte(uint32_t word, int i) { return int8_t(word >> 8 * i); }
inline int dot4(int a, int b, int c) {
  unsigned sum = unsigned(c);
  for (int j = 0; j < 32; j += 8) sum += unsigned(int(int8_t(a >> j)) * int(int8_t(b >> j)));
  return int(sum);
}

// ---- threads of a block, lanes of a warp

void sync_block();
void sync_warp();
uint64_t shuffle_bits(uint64_t v, int lane);
uint64_t shuffle_xor_bits(uint64_t v, int mask);
bool vote_any(bool p);

// `exchange` of a number of four or eight bytes, the types that CUDA's shuffles take.
template <typename T>
inline T shuffle_as(T v, int with, uint64_t (*exchange)(uint64_t, int)) {
  static_assert(std::is_arithmetic<T>::value && (sizeof(T) == 4 || sizeof(T) == 8), "no shuffle has this type");
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &v, sizeof(T));
  bits = exchange(bits, with);
  __builtin_memcpy(&v, &bits, sizeof(T));
  return v;
}
template <typename T>
inline T shuffle(T v, int lane) {
  return shuffle_as(v, lane, shuffle_bits);
}
template <typename T>
inline T shuffle_xor(T v, int mask) {
  return shuffle_as(v, mask, shuffle_xor_bits);
}

inline uint32_t transpose_halves(uint32_t word) {
  uint32_t to = 0;
  for (int i = 0; i < 2; i++) {
    int row = int(threadIdx.x) % 4 * 2 + i, column = int(threadIdx.x) % 32 / 4;
    to |= (shuffle(word, 4 * row + column / 2) >> column % 2 * 16 & 0xFFFFu) << 16 * i;
  }
  return to;
}

// Products by what is multiplied, and how deep. Alone, in registers, so that the caller's fragments need no address; those of
// halves are floats' bits.
enum Depth { BYTES_32, BYTES_16, HALVES_16, HALVES_8 };
struct Fragment {
  int d[4];
};
Fragment mma(Depth, const Fragment a, int b0, int b1);

inline void mma_16x8x32(int (&d)[4], const int (&a)[4], const int (&b)[2], int c) {
  const Fragment sum = mma(BYTES_32, {{a[0], a[1], a[2], a[3]}}, b[0], b[1]);
  for (int i = 0; i < 4; i++) d[i] = int(unsigned(c) + unsigned(sum.d[i]));
}
inline void mma_16x8x16(int (&d)[4], const int (&a)[2], const int (&b)[1], int c) {
  const Fragment sum = mma(BYTES_16, {{a[0], a[1], 0, 0}}, b[0], 0);
  for (int i = 0; i < 4; i++) d[i] = int(unsigned(c) + unsigned(sum.d[i]));
}
inline void mma_halves_16x8x8(float (&d)[4], const uint32_t (&a)[2], uint32_t b, float c) {
  const Fragment sum = mma(HALVES_8, {{int(a[0]), int(a[1]), 0, 0}}, int(b), 0);
  for (int i = 0; i < 4; i++) d[i] = c + as_float(uint32_t(sum.d[i]));
}
inline void mma_halves_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const float (&c)[4]) {
  const Fragment sum = mma(HALVES_16, {{int(a[0]), int(a[1]), int(a[2]), int(a[3])}}, int(b[0]), int(b[1]));
  for (int i = 0; i < 4; i++) d[i] = c[i] + as_float(uint32_t(sum.d[i]));
}

// ---- blocks of a launch

// A launch with a tail runs twice: all blocks, which leave at `finish`, and then the tail's, which work no more.
struct Tail {
  int blocks;  // 0 for none
};
struct Share {
  int index, of;
};
Tail tail_of(Device *, int blocks);
int multiprocessors(const Device *);
bool works(const Tail &);
Share finish(const Tail &);

// The emulator runs launches one after the other; what it sees to is that every thread waits, and touches no device memory before.
inline void allow_next() {}
void await_previous();

// ---- memory

void fetch_ahead(const void *from, uint32_t bytes);
void copy_async_16(void *to_shared, const void *from_global);
void copy_async_commit();
void copy_async_wait_for(int pending);
template <int PENDING>
inline void copy_async_wait() {
  copy_async_wait_for(PENDING);
}

__attribute__((const)) void *shared_memory(size_t bytes) noexcept;
template <typename T>
inline T &shared() {
  static_assert(alignof(T) <= 128, "shared memory begins on 128 bytes");
  return *static_cast<T *>(shared_memory(sizeof(T)));
}

// Calls of the C library would not be checked.
void *copy_checked(void *to, const void *from, size_t bytes);
__attribute__((always_inline)) inline void *memcpy(void *to, const void *from, size_t bytes) {
  if (__builtin_constant_p(bytes) && bytes <= 16) return __builtin_memcpy(to, from, bytes);
  return copy_checked(to, from, bytes);
}

// ---- launches

// Remembers the words for `message`.
int failure(int code, const char *what);

// One kernel with its operands by value; `thread` runs it for the thread that is current.
int launch_kernel(Device *, const char *name, void (*thread)(const void *call), const void *call, size_t call_bytes,
                  dim3 grid, int threads, size_t shared_bytes);

#define CODER_UNCHECKED __attribute__((no_sanitize("thread")))

template <typename... Formal>
struct Operands {};
template <typename T, typename... Formal>
struct Operands<T, Formal...> {
  T first;
  Operands<Formal...> rest;
  Operands(T first, Formal... rest) : first(first), rest(rest...) {}
};

template <typename Kernel, typename... Unpacked>
CODER_UNCHECKED inline void call_kernel(Kernel kernel, const Operands<> &, const Unpacked &...operands) {
  kernel(operands...);
}
template <typename Kernel, typename T, typename... Formal, typename... Unpacked>
CODER_UNCHECKED inline void call_kernel(Kernel kernel, const Operands<T, Formal...> &packed, const Unpacked &...operands) {
  call_kernel(kernel, packed.rest, operands..., packed.first);
}

template <typename... Formal>
struct Call {
  void (*kernel)(Formal...);
  Operands<Formal...> operands;
  CODER_UNCHECKED static void thread(const void *call) {
    const Call &c = *static_cast<const Call *>(call);
    call_kernel(c.kernel, c.operands);
  }
};

// Runs `kernel`, or records it while a graph is captured. 4 KiB is what a card's driver passes.
template <typename... Formal, typename... Actual>
int launch(Device *device, const char *name, void (*kernel)(Formal...), dim3 grid, int threads, size_t shared_bytes, Actual... args) {
  static_assert((std::is_trivially_copyable<Formal>::value && ...), "operands are copied as bytes");
  static_assert((0 + ... + sizeof(Formal)) <= 4096, "more operands than a launch can carry");
  Call<Formal...> call{kernel, Operands<Formal...>(static_cast<Formal>(args)...)};
  return launch_kernel(device, name, Call<Formal...>::thread, &call, sizeof call, grid, threads, shared_bytes);
}

}  // namespace CODER_NAMESPACE
