// Device memory: one reserved range per device, its allocations, and copies between it and the host.
//
// Addresses are handed out once and never again while the device is open, so that every use after release is seen;
// the pages behind them go back. Red zones of at least 256 bytes lie between allocations.
#include <sys/mman.h>

#include <cstdio>
#include <cstring>

#include "machine.h"

namespace CODER_NAMESPACE {

constexpr size_t ALIGNMENT = 256, WORD_BYTES = 4;

static void *pages(size_t bytes) {
  void *at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? nullptr : at;
}

// Everything is virtual: pages cost memory once they are written.
bool reserve(Machine &m, size_t bytes) {
  m.reserved = bytes;
  m.memory = {static_cast<char *>(pages(bytes)), ALIGNMENT, static_cast<uint8_t *>(pages(bytes)),
              static_cast<Entry *>(pages(bytes / WORD_BYTES * sizeof(Entry))),
              static_cast<Entry *>(pages(bytes * sizeof(Entry)))};
  m.sector = static_cast<Sector *>(pages(sectors_of(bytes) * sizeof(Sector)));
  if (m.memory.base && m.memory.state && m.memory.word && m.memory.byte && m.sector) {
    memset(m.memory.state, NOT_ALLOCATED, ALIGNMENT);
    return true;
  }
  unreserve(m);
  return false;
}

void unreserve(Machine &m) {
  if (m.memory.base) munmap(m.memory.base, m.reserved);
  if (m.memory.state) munmap(m.memory.state, m.reserved);
  if (m.memory.word) munmap(m.memory.word, m.reserved / WORD_BYTES * sizeof(Entry));
  if (m.memory.byte) munmap(m.memory.byte, m.reserved * sizeof(Entry));
  if (m.sector) munmap(m.sector, sectors_of(m.reserved) * sizeof(Sector));
  m.memory = {};
  m.sector = nullptr;
}

int allocate(Machine &m, size_t bytes, bool written, void **memory) {
  *memory = nullptr;
  if (bytes == 0) return OK;
  size_t at = m.memory.bytes;
  if (bytes > m.total - m.used) return failure(OUT_OF_MEMORY, "the emulated device has no memory left");
  size_t end = (at + bytes + 2 * ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  if (end > m.reserved) return failure(OUT_OF_MEMORY, "the emulated device has no addresses left");
  // What follows the last byte, up to the next allocation's begin.
  memset(m.memory.state + at + bytes, NOT_ALLOCATED, end - at - bytes);
  if (!written) memset(m.memory.state + at, NOT_WRITTEN, bytes);
  m.memory.bytes = end;
  m.allocations[at] = bytes;
  m.used += bytes;
  *memory = m.memory.base + at;
  return OK;
}

std::map<size_t, size_t>::const_iterator holder(const Machine &m, const void *at, size_t bytes) {
  size_t off = size_t(static_cast<const char *>(at) - m.memory.base);
  if (off >= m.memory.bytes) return m.allocations.end();
  auto next = m.allocations.upper_bound(off);
  if (next == m.allocations.begin()) return m.allocations.end();
  auto it = std::prev(next);
  return off - it->first <= it->second && bytes <= it->second - (off - it->first) ? it : m.allocations.end();
}

int release(Machine &m, void *memory) {
  if (!memory) return OK;
  size_t off = size_t(static_cast<char *>(memory) - m.memory.base);
  auto it = m.allocations.find(off);
  if (it == m.allocations.end()) return failure(BROKEN, "release of " + describe(m, memory));
  size_t bytes = it->second;
  memset(m.memory.state + off, NOT_ALLOCATED, bytes);
  size_t from = (off + 4095) & ~size_t(4095), to = (off + bytes) & ~size_t(4095);
  if (from < to) madvise(m.memory.base + from, to - from, MADV_DONTNEED);
  m.freed[off] = bytes;
  m.allocations.erase(it);
  m.used -= bytes;
  return OK;
}

int upload(Machine &m, void *to, const void *from, size_t bytes) {
  if (bytes == 0) return OK;
  if (holder(m, to, bytes) == m.allocations.end())
    return failure(BROKEN, "upload of " + std::to_string(bytes) + " bytes to " + describe(m, to));
  size_t off = size_t(static_cast<char *>(to) - m.memory.base), end = off + bytes;
  memcpy(to, from, bytes);
  // Words that a kernel wrote lose their entry as a whole. Pages that were never touched stay so.
  while (off % WORD_BYTES != 0 && m.memory.state[off] == WORD) off--;
  while (end % WORD_BYTES != 0 && m.memory.state[end] == WORD) end++;
  for (size_t i = off; i < end; i++)
    if (m.memory.state[i] != FROM_HOST) m.memory.state[i] = FROM_HOST;
  return OK;
}

int download(Machine &m, void *to, const void *from, size_t bytes) {
  if (bytes == 0) return OK;
  if (holder(m, from, bytes) == m.allocations.end())
    return failure(BROKEN, "download of " + std::to_string(bytes) + " bytes from " + describe(m, from));
  size_t off = size_t(static_cast<const char *>(from) - m.memory.base);
  for (size_t i = off; i < off + bytes; i++)
    if (m.memory.state[i] == NOT_WRITTEN)
      return failure(BROKEN, "download of memory that nobody wrote: " + describe(m, m.memory.base + i));
  memcpy(to, from, bytes);
  return OK;
}

static std::string format(const char *how, size_t distance, size_t bytes, const char *what) {
  char text[160];
  snprintf(text, sizeof text, how, distance, what, bytes);
  return text;
}

std::string describe(const Machine &m, const void *at) {
  char text[32];
  snprintf(text, sizeof text, "%p", at);
  std::string words = text;
  size_t off = size_t(static_cast<const char *>(at) - m.memory.base);
  if (off >= m.memory.bytes) return words + " (no device memory)";
  auto within = [off](const std::map<size_t, size_t> &all, size_t &distance, size_t &bytes) {
    auto next = all.upper_bound(off);
    if (next == all.begin()) return false;
    auto it = std::prev(next);
    distance = off - it->first;
    bytes = it->second;
    return true;
  };
  size_t distance = 0, bytes = 0, freed_distance = 0, freed_bytes = 0;
  bool live = within(m.allocations, distance, bytes), freed = within(m.freed, freed_distance, freed_bytes);
  if (live && distance < bytes) return words + format(" (byte %zu of %san allocation of %zu bytes)", distance, bytes, "");
  if (freed && freed_distance < freed_bytes)
    return words + format(" (byte %zu of %s memory of %zu bytes)", freed_distance, freed_bytes, "freed");
  if (live && (!freed || distance < freed_distance))
    return words + format(" (%zu bytes behind %san allocation of %zu bytes)", distance - bytes, bytes, "");
  return words + " (in no allocation)";
}

}  // namespace CODER_NAMESPACE
