// Kernels with a planted mistake each, for the emulator's tests: with `planted` they break one rule, without they keep it.
// The order is that of the list in tests/planted.rs.
#include "common.cuh"

#include <initializer_list>

extern "C" const Api *coder_emu_api();
extern "C" int coder_emu_allocate_unwritten(Device *, size_t, void **);

namespace CODER_NAMESPACE {

constexpr int THREADS = 64, N = 256;

// Of planted_products.cu: of bytes by their depth, of 8 halves with 8, of 16 halves with 0.
int planted_product(Device *, int which, bool planted);

// Mistakes of kernels come first, those of the host are behind.
constexpr int MISUSES = 40;

// What a kernel here may use: x [256] from the host, y [256] for its results, z [256] written by an earlier kernel.
struct Buffers {
  Device *device;
  float *x, *y, *z;
};

struct Words {
  alignas(16) int word[N];
};

// y[t] = a neighbour's word, twice. Without the second barrier the second round overwrites what others still read.
__global__ void missing_barrier(float *y, bool planted) {
  follow();
  Words &s = shared<Words>();
  int t = threadIdx.x, sum = 0;
  for (int round = 0; round < 2; round++) {
    s.word[t] = t + round;
    sync_block();
    sum += s.word[t ^ WARP];
    if (!planted) sync_block();
  }
  y[t] = float(sum);
}

__global__ void missing_first_barrier(float *y, bool planted) {
  follow();
  Words &s = shared<Words>();
  int t = threadIdx.x;
  s.word[t] = t;
  if (!planted) sync_block();
  y[t] = float(s.word[t ^ WARP]);
}

__global__ void missing_warp_barrier(float *y, bool planted) {
  follow();
  Words &s = shared<Words>();
  int t = threadIdx.x;
  s.word[t] = t;
  if (!planted) sync_warp();
  y[t] = float(s.word[t & ~1]);
}

// An exchange of the warp orders nothing.
__global__ void shuffle_as_barrier(float *y, bool planted) {
  follow();
  Words &s = shared<Words>();
  int t = threadIdx.x;
  s.word[t] = shuffle(t, 3);
  if (planted)
    vote_any(true);
  else
    sync_warp();
  y[t] = float(s.word[t & ~1]);
}

__global__ void off_by_one(float *y, const float *x, bool planted) {
  follow();
  for (int i = threadIdx.x; i < N; i += THREADS) y[i] = x[planted ? i + 1 : i];
}

__global__ void unwritten_shared(float *y, bool planted) {
  follow();
  Words &s = shared<Words>();
  int t = threadIdx.x;
  if (t < THREADS - int(planted)) s.word[t] = t;
  sync_block();
  y[t] = float(s.word[THREADS - 1 - t]);
}

__global__ void write_outside(float *y, bool planted) {
  follow();
  y[threadIdx.x + (planted ? N - THREADS + 1 : 0)] = 1;
}

__global__ void shared_outside(float *y, bool planted) {
  follow();
  Words &s = shared<Words>();
  int t = threadIdx.x;
  s.word[planted ? t + N - THREADS + 1 : t] = t;
  y[t] = 0;
}

__global__ void divergent_barrier(float *y, bool planted) {
  follow();
  if (!planted || threadIdx.x < 16) sync_block();
  y[threadIdx.x] = 1;
}

__global__ void early_return(float *y, bool planted) {
  follow();
  if (planted && threadIdx.x == 40) return;
  sync_block();
  y[threadIdx.x] = 1;
}

__global__ void missing_lane(float *y, bool planted) {
  follow();
  int t = threadIdx.x, v = t;
  if (!planted || t % WARP != 31) v = shuffle_xor(t, 1);
  y[t] = float(v);
}

__global__ void two_operations(float *y, bool planted) {
  follow();
  int t = threadIdx.x;
  if (planted && t % WARP < 7)
    sync_warp();
  else if (planted)
    vote_any(true);
  y[t] = 0;
}

__global__ void barrier_and_shuffle(float *y, bool planted) {
  follow();
  int t = threadIdx.x;
  if (planted && t % WARP < 7)
    sync_block();
  else
    t = shuffle(t, 0);
  y[threadIdx.x] = float(t);
}

__global__ void missing_wait(float *y, const float *x, bool planted) {
  follow();
  Words &s = shared<Words>();
  int t = threadIdx.x;
  copy_async_16(s.word + 4 * t, x + 4 * t);
  copy_async_commit();
  if (!planted) copy_async_wait<0>();
  sync_block();
  y[t] = float(s.word[t]);
}

// Two groups; the second is still on its way after copy_async_wait<1>.
__global__ void wait_for_too_few(float *y, const float *x, bool planted) {
  follow();
  Words &s = shared<Words>();
  int t = threadIdx.x % WARP, half = threadIdx.x / WARP * 16;
  for (int group = 0; group < 2; group++) {
    if (t < 16) copy_async_16(s.word + 128 * group + 4 * (half + t), x + 128 * group + 4 * (half + t));
    copy_async_commit();
  }
  copy_async_wait<1>();
  if (t < 16) y[half + t] = float(s.word[4 * (half + t)]);
  if (!planted) copy_async_wait<0>();
  if (t < 16) y[THREADS + half + t] = float(s.word[128 + 4 * (half + t)]);
}

// What others copied is there after a barrier only.
__global__ void wait_without_barrier(float *y, const float *x, bool planted) {
  follow();
  Words &s = shared<Words>();
  int t = threadIdx.x;
  copy_async_16(s.word + 4 * t, x + 4 * t);
  copy_async_commit();
  copy_async_wait<0>();
  if (!planted) sync_block();
  y[t] = float(s.word[t]);
}

__global__ void wait_without_commit(float *y, const float *x, bool planted) {
  follow();
  Words &s = shared<Words>();
  int t = threadIdx.x;
  copy_async_16(s.word + 4 * t, x + 4 * t);
  if (!planted) copy_async_commit();
  copy_async_wait<0>();
  y[t] = float(s.word[4 * t]);
}

// The destination is still read by others.
__global__ void copy_into_use(float *y, const float *x, bool planted) {
  follow();
  Words &s = shared<Words>();
  int t = threadIdx.x;
  for (int i = 0; i < 4; i++) s.word[4 * t + i] = i;
  sync_block();
  y[t] = float(s.word[4 * (t ^ WARP)]);
  if (!planted) sync_block();
  copy_async_16(s.word + 4 * t, x + 4 * t);
  copy_async_commit();
  copy_async_wait<0>();
}

// GCC sees it at the copy; Clang, which splits copies, at the member.
__global__ void misaligned(float *y, const float *x, bool planted) {
  follow();
  int t = threadIdx.x;
  const float4 *from = reinterpret_cast<const float4 *>(x + 2 * t + (planted ? 1 : 2 * (t % 2)));
  float4 v = *from;
  y[t] = v.x + v.y + v.z + from->w;
}

// The element is another word of the block's shared memory.
__global__ void beyond_array(float *y, bool planted) {
  follow();
  struct Two {
    int first[THREADS], second[THREADS];
  };
  Two &s = shared<Two>();
  int t = threadIdx.x;
  s.second[t] = t;
  s.first[planted ? t + THREADS : t] = t;
  y[t] = 0;
}

__global__ void write_first(float *y) {
  follow();
  y[threadIdx.x] = 1;
}

// Every block its own run, or all the same.
__global__ void two_blocks(float *y, bool planted) {
  follow();
  y[threadIdx.x + (planted ? 0 : blockIdx.x * THREADS)] = 1;
}

// z, in place: a block reads what another has written, or will write.
__global__ void blocks_in_place(float *z, int from, bool planted) {
  follow();
  int t = threadIdx.x, i = blockIdx.x * THREADS + t;
  z[i] = z[planted ? (i + from) % N : i] + 1;
}

// Within a block, z is shared memory like any other.
__global__ void global_race(float *z, bool planted) {
  follow();
  int t = threadIdx.x;
  z[t] = float(t);
  if (!planted) sync_block();
  z[t + THREADS] = z[t ^ WARP];
}

__global__ void bytes_race(float *z, bool planted) {
  follow();
  int8_t *q = reinterpret_cast<int8_t *>(z);
  int t = threadIdx.x;
  q[t] = int8_t(t);
  if (!planted) sync_warp();
  if (t % 4 == 0) z[64 + t] = z[t / 4];
}

__global__ void reads(float *y, const float *x) {
  follow();
  y[threadIdx.x] = x[threadIdx.x];
}

// What the device's own functions refuse, and that words come with it.
static int misuse(const Buffers &u, int which) {
  const Api &api = *coder_emu_api();
  float host[N + 1] = {};
  void *unwritten;
  if (int code = coder_emu_allocate_unwritten(u.device, 64, &unwritten)) return code;
  switch (which) {
    case 0: return api.upload(u.device, u.x, host, sizeof host);
    case 1: return api.download(u.device, host, unwritten, 64);
    case 2: return launch(u.device, "reads", reads, dim3(1), 16, 0, u.y, static_cast<float *>(unwritten));
    case 3: return launch(u.device, "reads", reads, dim3(1), THREADS, 0, u.y, static_cast<float *>(host));
    case 4: api.release(u.device, host); return api.synchronize(u.device);
    case 5: api.release(u.device, u.x); return launch(u.device, "reads", reads, dim3(1), THREADS, 0, u.y, u.x);
    case 6: return launch(u.device, "write_first", write_first, dim3(1), 1025, 0, u.y);
    case 7: return api.capture(u.device) ? BROKEN : api.upload(u.device, u.x, host, 4);
    default: return api.allocate(u.device, size_t(65) << 30, &unwritten);
  }
}

// Recorded operations run when they are replayed, each time, with the operands of their recording.
static int recorded(const Buffers &u, bool planted) {
  const Api &api = *coder_emu_api();
  Graph *graph = nullptr;
  float *y = u.y, got[2];
  if (int code = api.capture(u.device)) return code;
  launch(u.device, "blocks_in_place", blocks_in_place, dim3(4), THREADS, 0, y, 0, false);
  y = nullptr;
  if (int code = api.capture_end(u.device, &graph)) return code;
  int code = api.download(u.device, got, u.y, 4);
  for (int i = 0; i < (planted ? 2 : 3) && !code; i++) code = api.replay(u.device, graph);
  api.forget(graph);
  if (code || (code = api.download(u.device, got + 1, u.y, 4))) return code;
  return got[0] == 0 && got[1] == 3 ? OK : refuse("wrong replay");
}

enum Mistake { RIGHT, EARLY, UNFINISHED, AMONG };

// y[i] = i, and then, when that is written, half of y doubled by each of two blocks.
__global__ void tail(float *y, Tail tail, Mistake mistake) {
  follow();
  int t = threadIdx.x, last = gridDim.x - 1;
  if (works(tail)) y[blockIdx.x * THREADS + t] = float(blockIdx.x * THREADS + t);
  if (mistake == EARLY && int(blockIdx.x) == last) y[t] *= 2.0f;
  if (mistake == UNFINISHED && int(blockIdx.x) == last) return;
  Share share = finish(tail);
  if (share.index < 0) return;
  for (int i = share.index * N / share.of + t; i < (share.index + 1) * N / share.of; i += THREADS) y[i] *= 2.0f;
  if (mistake == AMONG) y[t] += y[N - 1 - t];
}

enum Haste { READS, WRITES, ADDS, COPIES, ENDS, ASKS_OUTSIDE, ASKS_ODDLY, PATIENT };

// y = x, with a thread of the second block in haste.
__global__ void hasty(float *y, const float *x, Haste haste) {
  Words &s = shared<Words>();
  int t = threadIdx.x, i = blockIdx.x * THREADS + t;
  bool planted = i == THREADS + 40;
  allow_next();
  if (planted && haste == ENDS) return;
  if (planted && haste == READS) s.word[t] = int(x[i]);
  if (planted && haste == WRITES) y[i] = 0;
  if (planted && haste == ADDS) __atomic_fetch_add(reinterpret_cast<int *>(y + i), 0, __ATOMIC_RELAXED);
  if (planted && haste == COPIES) copy_async_16(s.word + 4 * t, x + 4 * t);
  fetch_ahead(x, 16 * (planted && haste == ASKS_OUTSIDE ? N : 1));
  fetch_ahead(x + (planted && haste == ASKS_ODDLY), 16);
  await_previous();
  y[i] = x[i];
}

static int run_planted(const Buffers &u, int which, bool planted) {
  Device *d = u.device;
  auto one = [&](const char *name, void (*kernel)(float *, bool), size_t shared_bytes) {
    return launch(d, name, kernel, dim3(1), THREADS, shared_bytes, u.z, planted);
  };
  auto two = [&](const char *name, void (*kernel)(float *, const float *, bool)) {
    return launch(d, name, kernel, dim3(1), THREADS, sizeof(Words), u.y, u.x, planted);
  };
  switch (which) {
    case 0: return one("missing_barrier", missing_barrier, sizeof(Words));
    case 1: return one("missing_first_barrier", missing_first_barrier, sizeof(Words));
    case 2: return one("missing_warp_barrier", missing_warp_barrier, sizeof(Words));
    case 3: return one("shuffle_as_barrier", shuffle_as_barrier, sizeof(Words));
    case 4: return two("off_by_one", off_by_one);
    case 5: return one("unwritten_shared", unwritten_shared, sizeof(Words));
    case 6: return one("write_outside", write_outside, 0);
    case 7: return one("shared_outside", shared_outside, sizeof(Words));
    case 8: return one("shared_too_small", missing_warp_barrier, sizeof(Words) - (planted ? 4 : 0));
    case 9: return one("divergent_barrier", divergent_barrier, 0);
    case 10: return one("early_return", early_return, 0);
    case 11: return one("missing_lane", missing_lane, 0);
    case 12: return one("two_operations", two_operations, 0);
    case 13: return one("barrier_and_shuffle", barrier_and_shuffle, 0);
    case 14: return two("missing_wait", missing_wait);
    case 15: return two("wait_for_too_few", wait_for_too_few);
    case 16: return two("wait_without_barrier", wait_without_barrier);
    case 17: return two("wait_without_commit", wait_without_commit);
    case 18: return two("copy_into_use", copy_into_use);
    case 19: return one("beyond_array", beyond_array, sizeof(Words));
    case 20: return two("misaligned", misaligned);
    case 21: return launch(d, "two_blocks", two_blocks, dim3(4), THREADS, 0, u.y, planted);
    case 22: return launch(d, "blocks_read_behind", blocks_in_place, dim3(4), THREADS, 0, u.z, N - THREADS, planted);
    case 23: return launch(d, "blocks_read_ahead", blocks_in_place, dim3(4), THREADS, 0, u.z, THREADS, planted);
    case 24: return one("global_race", global_race, 0);
    case 25: return one("bytes_race", bytes_race, 0);
    case 26: return planted_product(d, 32, planted);
    case 27:
      if (int code = planted_product(d, 8, planted)) return code;
      return planted_product(d, 16, planted);
    case 28: return planted_product(d, 0, planted);
    case 29: return recorded(u, planted);
    case 30: return launch(d, "tail_too_early", tail, dim3(4), THREADS, 0, u.y, tail_of(d, 2), planted ? EARLY : RIGHT);
    case 31: return launch(d, "unfinished", tail, dim3(4), THREADS, 0, u.y, tail_of(d, 2), planted ? UNFINISHED : RIGHT);
    case 32: return launch(d, "tail_reads_tail", tail, dim3(4), THREADS, 0, u.y, tail_of(d, 2), planted ? AMONG : RIGHT);
    case 33:
    case 34:
    case 35:
    case 36:
    case 37:
    case 38:
    case 39: return launch(d, "hasty", hasty, dim3(4), THREADS, sizeof(Words), u.y, u.x, planted ? Haste(which - 33) : PATIENT);
    default: return planted ? misuse(u, which - MISUSES) : OK;
  }
}

}  // namespace CODER_NAMESPACE

using namespace CODER_NAMESPACE;

extern "C" const char *coder_emu_words() { return coder_emu_api()->message(); }

// After a failure the device must be as good as before: the kernel that came with it runs again, and passes.
extern "C" int coder_emu_planted(int which, bool planted) {
  const Api &api = *coder_emu_api();
  Buffers u;
  DeviceInfo info;
  float x[N];
  for (int i = 0; i < N; i++) x[i] = float(i);
  if (int code = api.open(0, &u.device, &info)) return code;
  int code = OK;
  for (float **buffer : {&u.x, &u.y, &u.z})
    if (!code) code = api.allocate(u.device, sizeof x, reinterpret_cast<void **>(buffer));
  if (!code) code = api.upload(u.device, u.x, x, sizeof x);
  if (!code) code = launch(u.device, "two_blocks", two_blocks, dim3(4), THREADS, 0, u.z, false);
  if (!code) code = run_planted(u, which, planted);
  if (code && which < MISUSES && run_planted(u, 0, false)) code = refuse("the device did not survive");
  api.close(u.device);
  return code;
}

extern "C" float coder_emu_half_to_float(uint16_t bits) { return half_to_float(bits); }
extern "C" uint16_t coder_emu_float_to_half(float x) { return float_to_half(x); }
