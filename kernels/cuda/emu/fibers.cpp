// Runs kernels: blocks one after the other, the threads of a block as fibers that give way at barriers and at operations of
// the warp. A thread that never waits runs on the stack of its predecessor.
//
// A launch that breaks a rule ends where it does: its fibers are left as they are, and their stacks used again.
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "machine.h"
#include "switch.h"

namespace CODER_NAMESPACE {

constexpr size_t STACK = 128 << 10, PAGE = 4096;

enum Operation { NONE, SYNC_WARP, SHUFFLE, SHUFFLE_XOR, VOTE_ANY, MMA };
static const char *const NAMES[] = {"", "sync_warp", "shuffle", "shuffle_xor", "vote_any", "mma"};

struct Warp {
  uint32_t lanes;     // that exist and have not returned
  uint32_t fresh;     // that have not begun
  uint32_t ready;     // that may go on, without the one that runs
  uint32_t arrived;   // that wait at `operation`
  uint32_t at_block;  // that wait at a barrier of the block
  Operation operation;
  Depth depth;        // of a product in progress
  bool vote, result;
  uint64_t since;     // clock's stamp at the last barrier of the warp
  // A lane cannot be two operations ahead of another: two sets suffice.
  uint32_t turn;
  uint64_t value[2][LANES];
  int a[LANES][4], b[LANES][2];
  Fragment d[LANES];
};

struct Copy {
  size_t to;
  unsigned group;
  char data[16];
};
struct Copies {
  std::vector<Copy> copies;
  unsigned group;  // the next to be committed
};

// What one thread of the process runs kernels with; kept from launch to launch.
struct Stage {
  Warp warp[MAX_WARPS];
  void *fiber[MAX_THREADS];   // suspended
  char *stack[MAX_THREADS];   // of each suspended
  Copies copies[MAX_THREADS];
  bool follows[MAX_THREADS];  // that have waited for the launch before
  std::vector<char *> all, unused;
  void *host;
  char *arena;                // shared memory between guards, its states and entries
  Space shared;
  unsigned waiting, returned; // at the block's barrier; for good
  bool finished;              // whether the block waits for all others
  size_t finishes;            // blocks that did
  int tail;                   // blocks that go on then
  const Launch *launch;
  bool failed;
  std::string words;

  Stage();
  ~Stage();
};

constexpr size_t ARENA = MAX_SHARED + 2 * PAGE;

Stage::Stage() {
  arena = static_cast<char *>(mmap(nullptr, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (arena == MAP_FAILED) abort();
  shared = {arena + PAGE, 0, new uint8_t[MAX_SHARED], new Entry[MAX_SHARED / 4](), new Entry[MAX_SHARED]()};
  for (Copies &c : copies) c.group = 0;
}

Stage::~Stage() {
  munmap(arena, ARENA);
  delete[] shared.state;
  delete[] shared.word;
  delete[] shared.byte;
  for (char *s : all) munmap(s - PAGE, STACK + PAGE);
}

static thread_local std::unique_ptr<Stage> kept;
static __thread Stage *stage __attribute__((tls_model("initial-exec")));

// ---- failing

void fault(std::string what) {
  char who[192];
  snprintf(who, sizeof who, "kernel `%s`, block (%u, %u, %u), thread %u ", core.name, core.block[0], core.block[1], core.block[2],
           core.thread);
  // Nothing on this stack is ever destroyed: the words' memory must not be its own.
  what.insert(0, who);
  stage->words.swap(what);
  stage->failed = true;
  void *abandoned;
  switch_fiber(&abandoned, stage->host);
  __builtin_unreachable();
}

static std::string lanes_of(uint32_t mask) {
  std::string words;
  for (int lane = 0; lane < LANES; lane++)
    if (mask >> lane & 1) words += (words.empty() ? "" : " ") + std::to_string(lane);
  return words;
}

// ---- choosing who goes on

// Null if the process has no room for one.
static char *take_stack() {
  Stage &s = *stage;
  if (s.unused.empty()) {
    char *at = static_cast<char *>(mmap(nullptr, STACK + PAGE, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (at == MAP_FAILED) return nullptr;
    mprotect(at, PAGE, PROT_NONE);
    s.all.push_back(at + PAGE);
    s.unused.push_back(at + PAGE);
  }
  char *taken = s.unused.back();
  s.unused.pop_back();
  return taken;
}

static inline void become(unsigned thread, char *stack) {
  core.thread = thread;
  core.me = (core.machine->clock << CLOCK_SHIFT) | thread;
  core.warp_since = stage->warp[thread / LANES].since;
  core.stack = stack;
  core.device.bytes = stage->follows[thread] ? core.machine->memory.bytes : 0;
}

// The next thread that may go on, the running one's warp first; -1 if there is none.
static inline int next() {
  unsigned warps = (core.threads + LANES - 1) / LANES, w = core.thread / LANES;
  for (unsigned tried = 0; tried < warps; tried++) {
    Warp &warp = stage->warp[w];
    if (warp.ready) {
      int lane = __builtin_ctz(warp.ready);
      warp.ready &= warp.ready - 1;
      return int(w * LANES) + lane;
    }
    if (++w == warps) w = 0;
  }
  return -1;
}

[[noreturn]] static void stuck() {
  for (unsigned w = 0; w < (core.threads + LANES - 1) / LANES; w++) {
    Warp &warp = stage->warp[w];
    if (warp.arrived)
      fault("and all others wait for ever: lanes " + lanes_of(warp.arrived) + " of warp " + std::to_string(w) + " at " +
            NAMES[warp.operation]);
  }
  fault("and all others wait for ever: " + std::to_string(stage->waiting) + " threads at sync_block, " +
        std::to_string(stage->returned) + " have returned");
}

static void run_threads();

// Suspends the running thread until an operation that it waits for is complete.
static inline void wait() {
  int to = next();
  if (to < 0) stuck();
  unsigned self = core.thread;
  stage->stack[self] = core.stack;
  Warp &warp = stage->warp[to / LANES];
  uint32_t lane = 1u << (to % LANES);
  if (warp.fresh & lane) {
    warp.fresh &= ~lane;
    char *stack = take_stack();
    if (!stack) fault("leaves no stack for others");
    become(unsigned(to), stack);
    // Tops at different offsets, or all would share a few lines of the cache.
    size_t top = STACK - size_t(to) * 320 % PAGE;
    switch_fiber(&stage->fiber[self], new_fiber(stack + top, top, run_threads));
  } else {
    become(unsigned(to), stage->stack[to]);
    switch_fiber(&stage->fiber[self], stage->fiber[to]);
  }
}

// A fiber's life: threads that are fresh, until one that is suspended is to go on.
static void run_threads() {
  for (;;) {
    stage->launch->thread(stage->launch->call.data());
    unsigned self = core.thread;
    Warp &own = stage->warp[self / LANES];
    own.lanes &= ~(1u << (self % LANES));
    stage->returned++;
    if (!stage->follows[self]) fault("returned without having waited for the launch before");
    if (own.arrived)
      fault("returned while lanes " + lanes_of(own.arrived) + " of its warp wait at " + NAMES[own.operation]);
    if (stage->waiting)
      fault("returned while " + std::to_string(stage->waiting) + " threads wait at sync_block");
    int to = next();
    void *finished;
    if (to < 0) switch_fiber(&finished, stage->host);
    Warp &warp = stage->warp[to / LANES];
    uint32_t lane = 1u << (to % LANES);
    if (warp.fresh & lane) {
      warp.fresh &= ~lane;
      become(unsigned(to), core.stack);
    } else {
      stage->unused.push_back(core.stack);
      become(unsigned(to), stage->stack[to]);
      switch_fiber(&finished, stage->fiber[to]);
    }
  }
}

// ---- barriers and operations of a warp

static inline void tick() {
  core.machine->clock++;
  core.me = (core.machine->clock << CLOCK_SHIFT) | core.thread;
}

void sync_block() {
  Stage &s = *stage;
  Warp &own = s.warp[core.thread / LANES];
  if (own.arrived)
    fault("waits at sync_block while lanes " + lanes_of(own.arrived) + " of its warp wait at " + NAMES[own.operation]);
  if (s.returned) fault("waits at sync_block after " + std::to_string(s.returned) + " threads have returned");
  own.at_block |= 1u << (core.thread % LANES);
  if (++s.waiting < core.threads) return wait();
  s.waiting = 0;
  tick();
  core.block_since = core.machine->clock << CLOCK_SHIFT;
  for (unsigned w = 0; w * LANES < core.threads; w++) {
    s.warp[w].at_block = 0;
    s.warp[w].ready = s.warp[w].lanes;
  }
  own.ready &= ~(1u << (core.thread % LANES));
}

// Checks that the running lane may take part, and whether it is the last.
static inline bool last_to(Warp &w, Operation operation) {
  uint32_t lane = 1u << (core.thread % LANES);
  if (w.lanes != ~0u)
    fault(std::string("waits at ") + NAMES[operation] + ", lanes " + lanes_of(~w.lanes) + " of its warp do not take part: " +
          (core.threads % LANES ? "they returned or never were" : "they have returned"));
  if (w.at_block)
    fault(std::string("waits at ") + NAMES[operation] + " while lanes " + lanes_of(w.at_block) + " of its warp wait at sync_block");
  if (w.arrived && w.operation != operation)
    fault(std::string("waits at ") + NAMES[operation] + " while lanes " + lanes_of(w.arrived) + " of its warp wait at " +
          NAMES[w.operation]);
  w.operation = operation;
  w.arrived |= lane;
  if (w.arrived != ~0u) return false;
  w.arrived = 0;
  w.turn ^= 1;
  w.ready = ~lane;
  return true;
}

static inline Warp &own_warp() { return stage->warp[core.thread / LANES]; }

void sync_warp() {
  Warp &w = own_warp();
  if (!last_to(w, SYNC_WARP)) return wait();
  tick();
  core.warp_since = w.since = core.machine->clock << CLOCK_SHIFT;
}

static inline uint64_t exchange(uint64_t v, int from, Operation operation) {
  Warp &w = own_warp();
  uint32_t turn = w.turn;
  w.value[turn][core.thread % LANES] = v;
  if (!last_to(w, operation)) wait();
  return w.value[turn][from & (LANES - 1)];
}

uint64_t shuffle_bits(uint64_t v, int lane) { return exchange(v, lane, SHUFFLE); }
uint64_t shuffle_xor_bits(uint64_t v, int mask) { return exchange(v, int(core.thread) ^ mask, SHUFFLE_XOR); }

bool vote_any(bool p) {
  Warp &w = own_warp();
  w.vote |= p;
  if (!last_to(w, VOTE_ANY)) {
    wait();
  } else {
    w.result = w.vote;
    w.vote = false;
  }
  return w.result;
}

Fragment mma(Depth depth, const Fragment a, int b0, int b1) {
  Warp &w = own_warp();
  int lane = int(core.thread % LANES);
  memcpy(w.a[lane], a.d, sizeof a);
  w.b[lane][0] = b0;
  w.b[lane][1] = b1;
  if (w.arrived && w.operation == MMA && w.depth != depth) fault("and other lanes of its warp are at products of different depth");
  w.depth = depth;
  if (last_to(w, MMA))
    multiply(depth, w.a, w.b, w.d);
  else
    wait();
  return w.d[lane];
}

// ---- blocks of a launch

static size_t all_blocks() { return size_t(core.grid[0]) * core.grid[1] * core.grid[2]; }

bool works(const Tail &) { return core.share < 0; }

Share finish(const Tail &tail) {
  if (tail.blocks == 0) return {-1, 0};
  Stage &s = *stage;
  if (!s.finished) s.finishes++;
  s.finished = true;
  s.tail = size_t(tail.blocks) < all_blocks() ? tail.blocks : int(all_blocks());
  sync_block();
  return {core.share, s.tail};
}

void await_previous() {
  stage->follows[core.thread] = true;
  core.device.bytes = core.machine->memory.bytes;
}

// ---- shared memory and copies to it

void *shared_memory(size_t bytes) noexcept {
  if (bytes > core.shared.bytes)
    fault("uses " + std::to_string(bytes) + " bytes of shared memory: outside, the launch gives " + std::to_string(core.shared.bytes));
  return core.shared.base;
}

void fetch_ahead(const void *from, uint32_t bytes) {
  const Machine &m = *core.machine;
  auto complain = [&](const char *why) { fault("asks for " + std::to_string(bytes) + " bytes ahead, at " + describe(m, from) + why); };
  if (holder(m, from, bytes) == m.allocations.end()) complain(": outside");
  if (reinterpret_cast<uintptr_t>(from) % 16 != 0 || bytes % 16 != 0) complain(": misaligned");
}

void copy_async_16(void *to_shared, const void *from_global) {
  const void *code = __builtin_return_address(0);
  size_t to = size_t(static_cast<char *>(to_shared) - core.shared.base);
  size_t from = size_t(static_cast<const char *>(from_global) - core.device.base);
  if (to >= core.shared.bytes) fault("copies to what is outside of shared memory, copy_async_16");
  if (core.device.bytes == 0) fault("copies from " + describe(*core.machine, from_global) + ": it has not waited for the launch before");
  if (from >= core.device.bytes) fault("copies from " + describe(*core.machine, from_global) + ": outside, copy_async_16");
  if (to % 16 != 0 || from % 16 != 0) fault("copies 16 bytes that are misaligned, copy_async_16");
  if (core.traffic) count(from, 16, false);
  check(core.device, from, 16, false, code);
  depart(to, 16);
  Copies &own = stage->copies[core.thread];
  own.copies.push_back({to, own.group, {}});
  memcpy(own.copies.back().data, from_global, 16);
}

void copy_async_commit() { stage->copies[core.thread].group++; }

void copy_async_wait_for(int pending) {
  Copies &own = stage->copies[core.thread];
  size_t landed = 0;
  for (Copy &c : own.copies) {
    if (c.group + unsigned(pending) >= own.group) break;
    memcpy(core.shared.base + c.to, c.data, 16);
    arrive(c.to, 16);
    landed++;
  }
  own.copies.erase(own.copies.begin(), own.copies.begin() + long(landed));
}

// ---- launches

static void run_block() {
  Stage &s = *stage;
  Machine &m = *core.machine;
  m.clock++;
  core.block_start = core.block_since = m.clock << CLOCK_SHIFT;
  s.unused = s.all;
  s.waiting = s.returned = 0;
  s.finished = false;
  memset(s.shared.state, NOT_WRITTEN, s.shared.bytes);
  for (unsigned w = 0; w * LANES < core.threads; w++) {
    unsigned lanes = core.threads - w * LANES;
    Warp &warp = s.warp[w];
    warp.lanes = warp.fresh = warp.ready = lanes >= LANES ? ~0u : (1u << lanes) - 1;
    warp.arrived = warp.at_block = warp.turn = 0;
    warp.vote = false;
    warp.since = core.block_start;
  }
  for (unsigned t = 0; t < core.threads; t++) {
    s.copies[t].copies.clear();
    s.copies[t].group = 0;
    s.follows[t] = false;
  }
  core.thread = 0;
  s.warp[0].ready &= ~1u;
  s.warp[0].fresh &= ~1u;
  char *stack = take_stack();
  s.failed = !stack;
  if (s.failed) {
    s.words = "no stack for a thread";
    return;
  }
  become(0, stack);
  switch_fiber(&s.host, new_fiber(stack + STACK, STACK, run_threads));
}

// The last blocks once more, for what they do when all have finished.
static void run_tail() {
  Stage &s = *stage;
  size_t all = all_blocks(), first = all - size_t(s.tail);
  s.failed = s.finishes < all;
  if (s.failed) {
    s.words = std::string("kernel `") + core.name + "`: " + std::to_string(all - s.finishes) + " of " + std::to_string(all) +
              " blocks never finish, and its tail waits for ever";
    return;
  }
  core.machine->clock++;
  core.blocks_since = core.machine->clock << CLOCK_SHIFT;
  for (int share = 0; share < s.tail && !s.failed; share++) {
    size_t at = first + size_t(share), x = core.grid[0], y = core.grid[1];
    const unsigned block[3] = {unsigned(at % x), unsigned(at / x % y), unsigned(at / x / y)};
    memcpy(core.block, block, sizeof block);
    core.share = share;
    run_block();
  }
}

static bool possible(const Launch &l) {
  return l.grid.x > 0 && l.grid.y > 0 && l.grid.z > 0 && l.grid.x <= 0x7fffffffu && l.grid.y <= 65535 && l.grid.z <= 65535 &&
         l.threads > 0 && l.threads <= MAX_THREADS && l.shared_bytes <= MAX_SHARED;
}

int run(Machine &m, const Launch &l) {
  if (!possible(l)) return failure(BROKEN, std::string("kernel `") + l.name + "`: impossible launch");
  if (!kept) kept = std::make_unique<Stage>();
  stage = kept.get();
  Stage &s = *stage;
  s.shared.bytes = l.shared_bytes;
  s.launch = &l;
  s.failed = false;
  m.clock++;
  core = {};
  core.device = m.memory;
  core.shared = s.shared;
  core.stack_bytes = STACK;
  core.launch_start = core.blocks_since = m.clock << CLOCK_SHIFT;
  core.share = -1;
  s.finishes = 0;
  const unsigned grid[3] = {l.grid.x, l.grid.y, l.grid.z};
  memcpy(core.grid, grid, sizeof grid);
  core.threads = unsigned(l.threads);
  core.machine = &m;
  core.name = l.name;
  core.traffic = traffic_of(l);
  for (unsigned z = 0; z < l.grid.z && !s.failed; z++)
    for (unsigned y = 0; y < l.grid.y && !s.failed; y++)
      for (unsigned x = 0; x < l.grid.x && !s.failed; x++) {
        const unsigned block[3] = {x, y, z};
        memcpy(core.block, block, sizeof block);
        run_block();
      }
  if (!s.failed && s.finishes) run_tail();
  core = {};
  return s.failed ? failure(BROKEN, s.words) : OK;
}

}  // namespace CODER_NAMESPACE
