// What the emulator's files share: a device's memory, what is remembered of each of its bytes, and the thread of a
// kernel that is running. Nothing here is seen by kernels.
//
// Time is a clock of the device that goes on at every event that orders accesses: the begin of a launch, the begin of
// a block, a barrier of the block, a barrier of a warp. An access is remembered as a stamp, the clock and the thread;
// whether two accesses are ordered is then a comparison of stamps.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../api.h"
#include "device.h"

namespace CODER_NAMESPACE {

constexpr int MAX_THREADS = 1024, LANES = 32, MAX_WARPS = MAX_THREADS / LANES;
constexpr size_t MAX_SHARED = 99 << 10;  // of the cards with the least

// ---- what is remembered of memory

// State of a byte. Zero is what fresh pages hold, and the first thing that an access asks for.
enum State : uint8_t {
  FROM_HOST = 0,    // zeroed or uploaded: before every launch
  NOT_ALLOCATED = 1,
  NOT_WRITTEN = 2,
  WORD = 3,         // written by a kernel; the entry of its word knows when. All four bytes of a word or none
  BYTE = 4,         // written by a kernel; the entry of the byte knows when
  IN_FLIGHT = 5,    // of shared memory: the destination of a copy_async_16 that was not waited for
};

// Stamps: bits 0 … 4 lane, 5 … 9 warp, 10 set if several lanes of the warp read, 11 … 63 clock.
constexpr uint64_t LANE_BITS = 0x1f, THREAD_BITS = 0x3ff, WARP_BITS = THREAD_BITS & ~LANE_BITS, SEVERAL = 0x400;
constexpr int CLOCK_SHIFT = 11;

struct Entry {
  uint64_t write;  // last write
  uint64_t read;   // last read since
  uint64_t other;  // last read since by another warp or block than `read`'s, as far as it matters
};

// Memory with a state for each byte and entries for each word and each byte.
struct Space {
  char *base;
  size_t bytes;
  uint8_t *state;
  Entry *word, *byte;
};

// Stamps of the last accesses to 32 bytes of device memory, kept while launches are counted.
struct Sector {
  uint64_t read, write;
};

// What a launch moved; traffic.cpp says what the counts mean. lib.rs mirrors it.
struct Traffic {
  const char *name;
  uint64_t blocks, threads;
  uint64_t read_bytes, written_bytes;  // of sectors, each once
  uint64_t read_by_blocks_bytes;       // of sectors, once for each block
  uint64_t loaded_bytes, stored_bytes; // of accesses
};

// ---- the thread of a kernel that is running on this thread of the process; all zero while none is

struct Core {
  Space device, shared;  // `device.bytes` is 0 while the thread has not waited for the launch before
  char *stack;           // of the running fiber
  size_t stack_bytes;
  uint64_t me;           // stamp of an access now
  uint64_t warp_since;   // stamps at which began: what no barrier of the running warp ordered yet,
  uint64_t block_since;  // no barrier of the block,
  uint64_t block_start;  // the block,
  uint64_t launch_start; // the launch,
  uint64_t blocks_since; // what no wait for all blocks ordered yet: the launch, or its tail
  unsigned thread;
  unsigned block[3], grid[3];
  unsigned threads;
  int share;             // of a tail that is running, -1 before it
  const char *name;      // of the kernel
  struct Machine *machine;
  Traffic *traffic;      // of the launch, if it is counted
};
extern __thread Core core __attribute__((tls_model("initial-exec")));

// ---- a device

struct Launch {
  const char *name;
  void (*thread)(const void *call);
  std::vector<char> call;
  dim3 grid;
  int threads;
  size_t shared_bytes;
};

// The device behind `Device`.
struct Machine {
  Space memory;                        // `memory.bytes`: what was ever handed out, of `reserved`
  size_t reserved, total, used;
  std::map<size_t, size_t> allocations, freed;  // offset → bytes
  uint64_t clock;
  bool capturing;
  std::vector<Launch> recorded;
  std::string pending;                 // failure of a function that returns nothing, for the next that does
  int major, minor;
  Sector *sector;                      // of `memory`
};

// The graph behind `Graph`.
struct Recording {
  std::vector<Launch> launches;
};

// memory.cpp
bool reserve(Machine &, size_t bytes);
void unreserve(Machine &);
int allocate(Machine &, size_t bytes, bool written, void **memory);
int release(Machine &, void *memory);
int upload(Machine &, void *to, const void *from, size_t bytes);
int download(Machine &, void *to, const void *from, size_t bytes);
// The allocation that holds [at, at + bytes), or the end.
std::map<size_t, size_t>::const_iterator holder(const Machine &, const void *at, size_t bytes);
// Where `at` lies with respect to the allocations, in words.
std::string describe(const Machine &, const void *at);

// access.cpp
// The checks of a read or a write of `bytes` at `off` of a space, as the running thread.
void check(Space &, size_t off, size_t bytes, bool write, const void *code);
// Marks shared memory as the destination of a copy, and as written by it.
void depart(size_t off, size_t bytes);
void arrive(size_t off, size_t bytes);

// traffic.cpp
size_t sectors_of(size_t bytes);
// An access of `bytes` bytes to device memory at `off`, of a launch that is counted.
void count(size_t off, size_t bytes, bool write);
// Where the launch is to be counted; null if it is not.
Traffic *traffic_of(const Launch &);

// products.cpp
void multiply(Depth, const int (&a)[LANES][4], const int (&b)[LANES][2], Fragment (&d)[LANES]);

// fibers.cpp
int run(Machine &, const Launch &);
// Ends the launch from within: the words are prefixed with kernel, block and thread.
[[noreturn]] void fault(std::string what);

// context.cpp
int failure(int code, const std::string &what);

}  // namespace CODER_NAMESPACE
