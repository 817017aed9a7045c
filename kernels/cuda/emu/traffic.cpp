// What launches move between the device's memory and its kernels, counted where a test asks for it.
//
// Two counts of reads bound what a card does. Each sector of 32 bytes that a launch touches comes from memory at least
// once, and only once if a cache holds it until its last use: that is what a kernel that streams is to be judged by. Each
// sector that a block touches comes to its multiprocessor at least once: that is the load of the second cache. What the
// lanes asked for, in bytes, loads the first.
#include "machine.h"

namespace CODER_NAMESPACE {

constexpr size_t SECTOR = 32;

static thread_local std::vector<Traffic> counted;
static thread_local bool counting;

size_t sectors_of(size_t bytes) { return bytes / SECTOR + 1; }

void count(size_t off, size_t bytes, bool write) {
  Traffic &t = *core.traffic;
  (write ? t.stored_bytes : t.loaded_bytes) += bytes;
  for (size_t s = off / SECTOR; s * SECTOR < off + bytes; s++) {
    Sector &sector = core.machine->sector[s];
    uint64_t &last = write ? sector.write : sector.read;
    if (last < core.launch_start) (write ? t.written_bytes : t.read_bytes) += SECTOR;
    if (last < core.block_start && !write) t.read_by_blocks_bytes += SECTOR;
    last = core.me;
  }
}

Traffic *traffic_of(const Launch &l) {
  if (!counting) return nullptr;
  counted.push_back({l.name, uint64_t(l.grid.x) * l.grid.y * l.grid.z, uint64_t(l.threads), 0, 0, 0, 0, 0});
  return &counted.back();
}

}  // namespace CODER_NAMESPACE

using namespace CODER_NAMESPACE;

// Begins to count this thread's launches, from none, or ends it.
extern "C" void coder_emu_count(int begin) {
  if (begin) counted.clear();
  counting = begin != 0;
}

extern "C" size_t coder_emu_counted_launches() { return counted.size(); }

extern "C" Traffic coder_emu_counted(size_t launch) { return counted.at(launch); }
