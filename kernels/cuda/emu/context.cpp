// The device's part of the interface: the emulated device, capture and replay, and the table.
#include <cstring>

#include "../common.cuh"
#include "machine.h"

namespace CODER_NAMESPACE {

// What the next device that this thread opens is like.
struct Wish {
  int major = 8, minor = 0;
  size_t total = size_t(64) << 30;
};

constexpr int MULTIPROCESSORS = 4;

static thread_local std::string last;
static thread_local Wish wish;

int failure(int code, const std::string &what) {
  last = what;
  return code;
}
int failure(int code, const char *what) { return code == OK ? OK : failure(code, std::string(what)); }
int refuse(const char *why) { return failure(REFUSED, std::string(why)); }

static Machine &machine(Device *device) { return *reinterpret_cast<Machine *>(device); }

// Whether a function may go on: not while a graph is captured, unless it can be, and not after a failed release.
static int begin(Machine &m, const char *what, bool recordable = false) {
  if (!m.pending.empty()) {
    std::string words;
    words.swap(m.pending);
    return failure(BROKEN, words);
  }
  if (m.capturing && !recordable) return failure(BROKEN, std::string(what) + " while a graph is captured");
  return OK;
}

#define BEGIN(...)                                     \
  if (int code = begin(__VA_ARGS__); code != OK) return code

static const char *message() { return last.c_str(); }

// A major version of 0 stands for a card whose driver is older than the runtime.
static int count(int32_t *devices) {
  *devices = 1;
  return wish.major == 0 ? failure(DRIVER_TOO_OLD, "the emulated driver is too old") : OK;
}

static int open(int32_t index, Device **device, DeviceInfo *info) {
  *device = nullptr;
  if (index != 0) return failure(NO_DEVICE, "there is one emulated device");
  auto m = std::make_unique<Machine>();
  // More than can be in use at once, as addresses are handed out once. Less where they are scarce.
  size_t bytes = wish.total + (size_t(8) << 30);
  while (!reserve(*m, bytes) && bytes > size_t(1) << 28) bytes /= 2;
  if (!m->memory.base) return failure(OUT_OF_MEMORY, "no addresses for an emulated device");
  m->total = wish.total;
  m->clock = 1;
  *info = {};
  strcpy(info->name, "emulated");
  info->major = m->major = wish.major;
  info->minor = m->minor = wish.minor;
  info->multiprocessors = MULTIPROCESSORS;
  info->driver = info->runtime = 12040;
  info->total_bytes = info->free_bytes = m->total;
  wish = {};
  if (info->major == 0) {
    info->driver = 11040;
    return failure(DRIVER_TOO_OLD, "the emulated driver is too old");
  }
  if (info->major < 8) return failure(DEVICE_TOO_OLD, "the emulated device is too old");
  if (m->total == 0) return failure(OUT_OF_MEMORY, "others have all memory of the emulated device");
  *device = reinterpret_cast<Device *>(m.release());
  return OK;
}

static void close(Device *device) {
  if (!device) return;
  unreserve(machine(device));
  delete &machine(device);
}

static int memory(Device *device, uint64_t *free_bytes, uint64_t *total_bytes) {
  Machine &m = machine(device);
  *free_bytes = m.total - m.used;
  *total_bytes = m.total;
  return OK;
}

static int allocate(Device *device, size_t bytes, void **at) {
  BEGIN(machine(device), "allocation");
  return allocate(machine(device), bytes, true, at);
}

// The device's own memory, which the host can reach: as with a card, the two have the same address.
static int allocate_host(Device *device, size_t bytes, void **host, void **at) {
  int code = allocate(device, bytes, at);
  *host = *at;
  return code;
}

static void release(Device *device, void *at) {
  Machine &m = machine(device);
  if (release(m, at) != OK && m.pending.empty()) m.pending = last;
}

static int upload(Device *device, void *to, const void *from, size_t bytes) {
  BEGIN(machine(device), "upload");
  return upload(machine(device), to, from, bytes);
}

static int download(Device *device, void *to, const void *from, size_t bytes) {
  BEGIN(machine(device), "download");
  return download(machine(device), to, from, bytes);
}

static int synchronize(Device *device) { return begin(machine(device), "synchronisation"); }

static int capture(Device *device) {
  BEGIN(machine(device), "capture");
  machine(device).capturing = true;
  return OK;
}

static int capture_end(Device *device, Graph **graph) {
  Machine &m = machine(device);
  *graph = nullptr;
  if (!m.capturing) return failure(BROKEN, "no graph is captured");
  m.capturing = false;
  *graph = reinterpret_cast<Graph *>(new Recording{std::move(m.recorded)});
  m.recorded.clear();
  return begin(m, "end of capture");
}

static int replay(Device *device, Graph *graph) {
  BEGIN(machine(device), "replay");
  for (const Launch &l : reinterpret_cast<Recording *>(graph)->launches)
    if (int code = run(machine(device), l); code != OK) return code;
  return OK;
}

static void forget(Graph *graph) { delete reinterpret_cast<Recording *>(graph); }

int multiprocessors(const Device *) { return MULTIPROCESSORS; }

Tail tail_of(Device *, int blocks) { return {blocks < MULTIPROCESSORS ? blocks : MULTIPROCESSORS}; }

int launch_kernel(Device *device, const char *name, void (*thread)(const void *call), const void *call, size_t call_bytes,
                  dim3 grid, int threads, size_t shared_bytes) {
  Machine &m = machine(device);
  BEGIN(m, name, true);
  const char *bytes = static_cast<const char *>(call);
  Launch l = {name, thread, std::vector<char>(bytes, bytes + call_bytes), grid, threads, shared_bytes};
  if (!m.capturing) return run(m, l);
  m.recorded.push_back(std::move(l));
  return OK;
}

static const Api TABLE = {
    CODER_CUDA_API_VERSION,
    count, open, close, message, memory, allocate, allocate_host, release, release, upload, download, synchronize,
    capture, capture_end, replay, forget,
    CODER_OPERATIONS,
};

}  // namespace CODER_NAMESPACE

using namespace CODER_NAMESPACE;

extern "C" const Api *coder_emu_api() { return &TABLE; }

// ---- for tests alone

// Capability and memory of the next device that this thread opens.
extern "C" void coder_emu_next(int major, int minor, uint64_t total_bytes) { wish = {major, minor, size_t(total_bytes)}; }

// Memory that nobody wrote yet.
extern "C" int coder_emu_allocate_unwritten(Device *device, size_t bytes, void **at) {
  BEGIN(machine(device), "allocation");
  return allocate(machine(device), bytes, false, at);
}
