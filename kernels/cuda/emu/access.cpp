// Every access of a kernel: the callbacks that -fsanitize=thread puts before each, and the checks.
//
// The compiler calls them with the address; no other part of that sanitizer is linked. An access to a kernel's own
// stack is fine, and so is a read of constants of the program. Accesses to device and shared memory
// are checked for bounds, for alignment, for bytes that nobody wrote, and for order.
//
// Order of two accesses to a byte, at least one a write, within a block: the same thread's, or with a barrier of the
// block between, or within a warp a barrier of the warp. Exchanges of a warp order nothing, as on a card. Between
// blocks of a launch nothing is ordered. A read of memory that no kernel ever wrote is not remembered, which keeps the
// reading of weights cheap.
#include <link.h>

#include <cstdio>
#include <cstring>

#include "machine.h"

namespace CODER_NAMESPACE {

__thread Core core;

unsigned thread_x() noexcept { return core.thread; }
unsigned block_at(int axis) noexcept { return core.block[axis]; }
unsigned threads_of_block() noexcept { return core.threads; }
unsigned blocks_of_grid(int axis) noexcept { return core.grid[axis]; }

// ---- what to say

// The part of the program's image that holds an address, to name places in its code and to know its constants.
struct Place {
  const char *at, *image, *part;
  size_t bytes;
  bool constant;  // never written
};

static int locate(dl_phdr_info *info, size_t, void *data) {
  Place &p = *static_cast<Place *>(data);
  const char *image = reinterpret_cast<const char *>(info->dlpi_addr);
  for (int i = 0; i < info->dlpi_phnum && !p.constant; i++) {
    const auto &h = info->dlpi_phdr[i];
    if ((h.p_type != PT_LOAD && h.p_type != PT_GNU_RELRO) || size_t(p.at - image - h.p_vaddr) >= h.p_memsz) continue;
    p = {p.at, image, image + h.p_vaddr, h.p_memsz, h.p_type == PT_GNU_RELRO || !(h.p_flags & PF_W)};
  }
  return p.part != nullptr;
}

// Tables are read often: the part that the last one lay in is kept.
static bool constant(const char *at) {
  static thread_local Place last;
  if (size_t(at - last.part) < last.bytes) return true;
  Place p = {at, nullptr, nullptr, 0, false};
  dl_iterate_phdr(locate, &p);
  if (p.constant) last = p;
  return p.constant;
}

static std::string place(const void *code) {
  if (!code) return "";
  Place p = {static_cast<const char *>(code), nullptr, nullptr, 0, false};
  dl_iterate_phdr(locate, &p);
  char text[48];
  snprintf(text, sizeof text, " [code +%#zx]", size_t(p.at - p.image) - 1);
  return text;
}

static std::string where(const Space &s, size_t off) {
  if (&s != &core.shared) return describe(*core.machine, s.base + off);
  return "byte " + std::to_string(off) + " of shared memory of " + std::to_string(s.bytes) + " bytes";
}

static std::string who(uint64_t stamp) {
  return stamp & SEVERAL ? "several threads of warp " + std::to_string((stamp & WARP_BITS) / LANES)
                         : "thread " + std::to_string(stamp & THREAD_BITS);
}

[[noreturn]] static void report(const char *why, const Space &s, size_t off, bool write, const void *code) {
  fault(std::string(write ? "writes " : "reads ") + where(s, off) + ": " + why + place(code));
}

[[noreturn]] static void race(const Space &s, size_t off, uint64_t other, bool write, bool other_write, const void *code) {
  bool blocks = other < core.block_start;
  std::string words = std::string(write ? "writes " : "reads ") + where(s, off) + ": race, ";
  words += blocks ? "two blocks of one launch, another block " : who(other) + " ";
  fault(words + (other_write ? "wrote" : "read") + " it" + (blocks ? "" : " and no barrier orders the two") + place(code));
}

// ---- order

static inline bool unordered(uint64_t stamp) {
  if (stamp < core.block_since) return stamp >= core.blocks_since && stamp < core.block_start;
  if (((stamp ^ core.me) & (THREAD_BITS | SEVERAL)) == 0) return false;
  return ((stamp ^ core.me) & WARP_BITS) != 0 || stamp >= core.warp_since;
}

static inline void read_entry(const Space &s, size_t off, Entry &e, const void *code) {
  if (e.read == core.me) return;
  if (unordered(e.write)) race(s, off, e.write, false, true, code);
  uint64_t last = e.read;
  bool other_block = last < core.block_start;
  if (!other_block && ((last ^ core.me) & WARP_BITS) == 0) {
    // A lane's own earlier reads are no matter; other lanes' are until a barrier.
    bool several = ((last ^ core.me) & (SEVERAL | LANE_BITS)) != 0 && last >= core.warp_since && last >= core.block_since;
    e.read = core.me | (several ? SEVERAL : 0);
    return;
  }
  bool keep_other = e.other >= core.blocks_since && e.other < core.block_start;
  if (other_block ? last >= core.blocks_since : last >= core.block_since && !keep_other) e.other = last;
  e.read = core.me;
}

static inline void write_entry(const Space &s, size_t off, Entry &e, const void *code) {
  if (unordered(e.write)) race(s, off, e.write, true, true, code);
  if (unordered(e.read)) race(s, off, e.read, true, false, code);
  if (unordered(e.other)) race(s, off, e.other, true, false, code);
}

// ---- state

static inline uint32_t state_of_word(const Space &s, size_t off) {
  uint32_t state;
  memcpy(&state, s.state + off, 4);
  return state;
}

constexpr uint32_t WORDS = 0x01010101u * WORD;

static inline void complain(const Space &s, size_t off, bool write, const void *code) {
  uint8_t state = s.state[off];
  if (state == NOT_ALLOCATED) report("outside", s, off, write, code);
  if (state == IN_FLIGHT) report("copy_async was not waited for", s, off, write, code);
  if (state == NOT_WRITTEN && !write) report("nobody wrote it", s, off, write, code);
}

// Gives the bytes of a word entries of their own.
static void split(Space &s, size_t off) {
  size_t word = off & ~size_t(3);
  for (int b = 0; b < 4; b++) {
    s.byte[word + b] = s.word[word / 4];
    s.state[word + b] = BYTE;
  }
}

static void check_byte(Space &s, size_t off, bool write, const void *code) {
  complain(s, off, write, code);
  if (s.state[off] == WORD) split(s, off);
  if (s.state[off] == BYTE) {
    if (!write) return read_entry(s, off, s.byte[off], code);
    write_entry(s, off, s.byte[off], code);
  }
  if (!write) return;
  s.byte[off] = {core.me, 0, 0};
  s.state[off] = BYTE;
}

static void check_word(Space &s, size_t off, bool write, const void *code) {
  uint32_t state = state_of_word(s, off);
  Entry &e = s.word[off / 4];
  if (state == WORDS) {
    if (!write) return read_entry(s, off, e, code);
    write_entry(s, off, e, code);
  } else if (state == 0 || state == 0x01010101u * NOT_WRITTEN) {
    if (!write && state == 0) return;
    if (!write) complain(s, off, write, code);
    memcpy(s.state + off, &WORDS, 4);
  } else {
    for (int b = 0; b < 4; b++) check_byte(s, off + b, write, code);
    if (!write) return;
    memcpy(s.state + off, &WORDS, 4);
  }
  e = {core.me, 0, 0};
}

void check(Space &s, size_t off, size_t bytes, bool write, const void *code) {
  if (off >= s.bytes || bytes > s.bytes - off) report("outside", s, off, write, code);
  for (size_t end = off + bytes; off < end;) {
    bool word = off % 4 == 0 && end - off >= 4;
    (word ? check_word : check_byte)(s, off, write, code);
    off += word ? 4 : 1;
  }
}

void depart(size_t off, size_t bytes) {
  check(core.shared, off, bytes, true, nullptr);
  memset(core.shared.state + off, IN_FLIGHT, bytes);
}

void arrive(size_t off, size_t bytes) {
  memset(core.shared.state + off, WORD, bytes);
  for (size_t at = off; at < off + bytes; at += 4) core.shared.word[at / 4] = {core.me, 0, 0};
}

// ---- accesses

// Those that are neither to device nor to shared memory nor to the stack; also the launchers' own, while nothing runs.
static void elsewhere(const char *at, size_t bytes, bool write, const void *code) {
  if (!core.name) return;
  if (!write && constant(at)) return;
  size_t shared = size_t(at - core.shared.base);
  if (shared < MAX_SHARED) report("outside", core.shared, shared, write, code);
  const Space &device = core.machine->memory;
  bool early = core.device.bytes == 0 && size_t(at - device.base) < device.bytes;
  fault(std::string(write ? "writes " : "reads ") + std::to_string(bytes) + " bytes at " + describe(*core.machine, at) +
        (early ? ": it has not waited for the launch before" : ": outside") + place(code));
}

template <bool WRITE>
static inline void access(const void *address, size_t bytes, const void *code) {
  const char *at = static_cast<const char *>(address);
  size_t off = size_t(at - core.device.base);
  if (off < core.device.bytes) {
    if (core.traffic) count(off, bytes, WRITE);
    return check(core.device, off, bytes, WRITE, code);
  }
  off = size_t(at - core.shared.base);
  if (off < core.shared.bytes) return check(core.shared, off, bytes, WRITE, code);
  off = size_t(at - core.stack);
  if (off < core.stack_bytes) return;
  elsewhere(at, bytes, WRITE, code);
}

[[noreturn]] static __attribute__((noinline)) void misaligned(const void *at, size_t bytes, bool write, const void *code) {
  fault(std::string(write ? "writes " : "reads ") + std::to_string(bytes) + " bytes at " + describe(*core.machine, at) +
        ": misaligned" + place(code));
}

template <size_t BYTES, bool WRITE>
static __attribute__((noinline)) void tracked(const char *at, const void *code) {
  if ((size_t(at) & (BYTES - 1)) != 0 && core.name) misaligned(at, BYTES, WRITE, code);
  access<WRITE>(at, BYTES, code);
}

// A word that a kernel wrote, in device or shared memory.
template <bool WRITE>
static __attribute__((noinline)) void tracked_word(Space &s, size_t off, const void *code) {
  Entry &e = s.word[off / 4];
  if (!WRITE) return read_entry(s, off, e, code);
  write_entry(s, off, e, code);
  e = {core.me, 0, 0};
}

// What is frequent, and small enough for the compiler to need no stack: reads of what the device had before the launch,
// words that a kernel wrote, the kernel's own stack.
template <size_t BYTES, bool WRITE>
static inline __attribute__((always_inline)) void aligned(const void *address, const void *code) {
  const char *at = static_cast<const char *>(address);
  Core &c = core;
  size_t off = size_t(at - c.device.base);
  if (off < c.device.bytes && off % BYTES == 0 && !c.traffic) {
    uint64_t state[2] = {0, 0};
    memcpy(state, c.device.state + off, BYTES);
    if (!WRITE && (state[0] | state[1]) == 0) return;
    if (BYTES == 4 && state[0] == WORDS) return tracked_word<WRITE>(c.device, off, code);
    return tracked<BYTES, WRITE>(at, code);
  }
  off = size_t(at - c.shared.base);
  if (BYTES == 4 && off < c.shared.bytes && off % 4 == 0 && state_of_word(c.shared, off) == WORDS)
    return tracked_word<WRITE>(c.shared, off, code);
  if (size_t(at - c.stack) < c.stack_bytes && size_t(at) % BYTES == 0) return;
  tracked<BYTES, WRITE>(at, code);
}

// Atomics are checked for bounds and for bytes that nobody wrote; they order nothing, and are no races.
static void *atomic(volatile void *address, size_t bytes, bool write, const void *code) {
  char *at = static_cast<char *>(const_cast<void *>(address));
  for (Space *s : {&core.device, &core.shared}) {
    size_t off = size_t(at - s->base);
    if (off >= s->bytes) continue;
    if (core.traffic && s == &core.device) count(off, bytes, write);
    for (size_t i = off; i < off + bytes; i++) {
      complain(*s, i, write, code);
      if (s->state[i] == WORD) split(*s, i);
      if (write) s->state[i] = FROM_HOST;
    }
    return at;
  }
  if (core.name && size_t(at - core.stack) >= core.stack_bytes) elsewhere(at, bytes, write, code);
  return at;
}

void *copy_checked(void *to, const void *from, size_t bytes) {
  const void *code = __builtin_return_address(0);
  if (bytes == 0) return to;
  access<false>(from, bytes, code);
  access<true>(to, bytes, code);
  return memmove(to, from, bytes);
}

}  // namespace CODER_NAMESPACE

using namespace CODER_NAMESPACE;

#define CODE __builtin_return_address(0)

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}

#define CODER_ACCESS(N)                                                           \
  void __tsan_read##N(void *at) { aligned<N, false>(at, CODE); }                  \
  void __tsan_write##N(void *at) { aligned<N, true>(at, CODE); }                  \
  void __tsan_unaligned_read##N(void *at) { access<false>(at, N, CODE); }         \
  void __tsan_unaligned_write##N(void *at) { access<true>(at, N, CODE); }         \
  void __tsan_read_write##N(void *at) { aligned<N, false>(at, CODE), aligned<N, true>(at, CODE); } \
  void __tsan_unaligned_read_write##N(void *at) { access<false>(at, N, CODE), access<true>(at, N, CODE); }
CODER_ACCESS(1)
CODER_ACCESS(2)
CODER_ACCESS(4)
CODER_ACCESS(8)
CODER_ACCESS(16)

void __tsan_read_range(void *at, size_t bytes) {
  if (bytes) access<false>(at, bytes, CODE);
}
void __tsan_write_range(void *at, size_t bytes) {
  if (bytes) access<true>(at, bytes, CODE);
}
void __tsan_vptr_update(void **at, void *) { access<true>(at, sizeof *at, CODE); }
void __tsan_vptr_read(void **at) { access<false>(at, sizeof *at, CODE); }

// Clang's in place of calls of the C library.
void *__tsan_memcpy(void *to, const void *from, size_t bytes) { return copy_checked(to, from, bytes); }
void *__tsan_memmove(void *to, const void *from, size_t bytes) { return copy_checked(to, from, bytes); }
void *__tsan_memset(void *to, int value, size_t bytes) {
  if (bytes) access<true>(to, bytes, CODE);
  return memset(to, value, bytes);
}

#define CODER_FETCH(N, NAME)                                                                             \
  uint##N##_t __tsan_atomic##N##_fetch_##NAME(volatile void *at, uint##N##_t v, int) {                   \
    return __atomic_fetch_##NAME(static_cast<uint##N##_t *>(atomic(at, N / 8, true, CODE)), v, __ATOMIC_SEQ_CST); \
  }
#define CODER_EXCHANGE(N, KIND)                                                                               \
  int __tsan_atomic##N##_compare_exchange_##KIND(volatile void *at, uint##N##_t *was, uint##N##_t v, int, int) { \
    return __atomic_compare_exchange_n(static_cast<uint##N##_t *>(atomic(at, N / 8, true, CODE)), was, v, false,  \
                                       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                                   \
  }
#define CODER_ATOMIC(N)                                                                                       \
  uint##N##_t __tsan_atomic##N##_load(const volatile void *at, int) {                                         \
    void *word = atomic(const_cast<volatile void *>(at), N / 8, false, CODE);                                 \
    return __atomic_load_n(static_cast<uint##N##_t *>(word), __ATOMIC_SEQ_CST);                               \
  }                                                                                                           \
  void __tsan_atomic##N##_store(volatile void *at, uint##N##_t v, int) {                                      \
    __atomic_store_n(static_cast<uint##N##_t *>(atomic(at, N / 8, true, CODE)), v, __ATOMIC_SEQ_CST);         \
  }                                                                                                           \
  uint##N##_t __tsan_atomic##N##_exchange(volatile void *at, uint##N##_t v, int) {                            \
    return __atomic_exchange_n(static_cast<uint##N##_t *>(atomic(at, N / 8, true, CODE)), v, __ATOMIC_SEQ_CST); \
  }                                                                                                           \
  CODER_FETCH(N, add) CODER_FETCH(N, sub) CODER_FETCH(N, and) CODER_FETCH(N, or) CODER_FETCH(N, xor)          \
  CODER_EXCHANGE(N, strong) CODER_EXCHANGE(N, weak)
CODER_ATOMIC(8)
CODER_ATOMIC(16)
CODER_ATOMIC(32)
CODER_ATOMIC(64)

}  // extern "C"
