// The device itself: opening, memory, copies, graphs, and the table of functions. The emulator has a twin of this
// file; the operations in the table are the same sources in both.
#include "common.cuh"

#include <stdio.h>
#include <string.h>

#include <new>

struct Device {
  int index;
  cudaStream_t stream;
  unsigned *tail;  // the count of Tail; launches of one stream use it one after the other
  int multiprocessors;
  bool overlaps;   // whether a launch may begin before the one before it ends, see `allow_next`
};

struct Graph {
  cudaGraphExec_t executable;
};

namespace CODER_NAMESPACE {

static thread_local char words[512];

// Each multiprocessor runs a block of any kernel. A quarter of them: launches of other programs may wait for their tails too.
Tail tail_of(Device *device, int blocks) {
  int most = device->multiprocessors < 4 ? 1 : device->multiprocessors / 4;
  return {device->tail, blocks < most ? blocks : most};
}

int multiprocessors(const Device *device) { return device->multiprocessors; }

int failure(cudaError_t error, const char *what) {
  if (error == cudaSuccess) return OK;
  snprintf(words, sizeof words, "%s: %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
  cudaGetLastError();  // an error that does not stay must not be reported again
  switch (error) {
    case cudaErrorMemoryAllocation: return OUT_OF_MEMORY;
    case cudaErrorInsufficientDriver: return DRIVER_TOO_OLD;
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice: return NO_DEVICE;
    default: return BROKEN;
  }
}

int refuse(const char *why) {
  snprintf(words, sizeof words, "%s", why);
  return REFUSED;
}

static cudaStream_t stream_of(Device *device) {
  cudaSetDevice(device->index);
  return device->stream;
}

// A launch behind a copy or a graph begins when that has ended, attribute or not.
int launch_kernel(Device *device, const char *name, const void *kernel, dim3 grid, int threads, size_t shared_bytes, void **operands) {
  // Beyond what every kernel may have, one has to ask.
  if (shared_bytes > 48 << 10) {
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes));
  }
  cudaLaunchAttribute overlap = {};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream_of(device);
  config.attrs = &overlap;
  config.numAttrs = device->overlaps ? 1 : 0;
  return failure(cudaLaunchKernelExC(&config, kernel, operands), name);
}

static const char *message() { return words; }

// 0 if there is a driver at all.
static int find_driver(int *version) {
  int error = failure(cudaDriverGetVersion(version), "driver");
  if (error != OK) return error;
  if (*version != 0) return OK;
  snprintf(words, sizeof words, "no CUDA driver");
  return NO_DRIVER;
}

static int count(int32_t *devices) {
  int version = 0;
  if (int error = find_driver(&version)) return error;
  *devices = 0;
  int error = failure(cudaGetDeviceCount(devices), "devices");
  return error == NO_DEVICE ? OK : error;
}

static int attribute(cudaDeviceAttr which, int index) {
  int value = 0;
  return cudaDeviceGetAttribute(&value, which, index) == cudaSuccess ? value : 0;
}

static int describe(int index, DeviceInfo *info) {
  cudaDeviceProp properties;
  if (int error = failure(cudaGetDeviceProperties(&properties, index), "properties")) return error;
  snprintf(info->name, sizeof info->name, "%s", properties.name);
  info->major = properties.major;
  info->minor = properties.minor;
  info->multiprocessors = properties.multiProcessorCount;
  // Kilohertz of a bus that moves twice a cycle, and bits.
  double rate = attribute(cudaDevAttrMemoryClockRate, index), width = attribute(cudaDevAttrGlobalMemoryBusWidth, index);
  info->memory_bytes_per_s = 2.0 * rate * 1e3 * width / 8.0;
  return info->major < 8 ? DEVICE_TOO_OLD : OK;
}

// Cards from 9.0 on have it; graphs keep it from CUDA 12.3 on.
static bool overlaps(const DeviceInfo &info) { return info.major >= 9 && info.driver >= 12030 && info.runtime >= 12030; }

static int open(int32_t index, Device **device, DeviceInfo *info) {
  memset(info, 0, sizeof *info);
  if (int error = find_driver(&info->driver)) return error;
  cudaRuntimeGetVersion(&info->runtime);
  if (int error = failure(cudaSetDevice(index), "device")) return error;
  if (int error = describe(index, info)) return error;
  cudaStream_t stream;
  if (int error = failure(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream")) return error;
  size_t free_bytes = 0, total_bytes = 0;
  unsigned *tail = nullptr;
  int error = failure(cudaMalloc(&tail, sizeof *tail), "count of blocks");
  if (error == OK) error = failure(cudaMemsetAsync(tail, 0, sizeof *tail, stream), "count of blocks");
  if (error == OK) error = failure(cudaMemGetInfo(&free_bytes, &total_bytes), "memory");
  Device *opened = error == OK ? new (std::nothrow) Device{index, stream, tail, info->multiprocessors, overlaps(*info)} : nullptr;
  if (opened == nullptr) {
    cudaFree(tail);
    cudaStreamDestroy(stream);
    return error == OK ? OUT_OF_MEMORY : error;
  }
  info->free_bytes = free_bytes;
  info->total_bytes = total_bytes;
  *device = opened;
  return OK;
}

static void close(Device *device) {
  cudaStream_t stream = stream_of(device);
  cudaStreamSynchronize(stream);
  cudaFree(device->tail);
  cudaStreamDestroy(stream);
  delete device;
}

static int memory(Device *device, uint64_t *free_bytes, uint64_t *total_bytes) {
  stream_of(device);
  size_t free_now = 0, total = 0;
  int error = failure(cudaMemGetInfo(&free_now, &total), "memory");
  *free_bytes = free_now;
  *total_bytes = total;
  return error;
}

static int allocate(Device *device, size_t bytes, void **device_memory) {
  cudaStream_t stream = stream_of(device);
  // A size of 0 is a pointer too, that nobody reads.
  if (int error = failure(cudaMalloc(device_memory, bytes == 0 ? 1 : bytes), "allocate")) return error;
  int error = failure(cudaMemsetAsync(*device_memory, 0, bytes, stream), "allocate");
  if (error != OK) cudaFree(*device_memory);
  return error;
}

static int allocate_host(Device *device, size_t bytes, void **host, void **device_memory) {
  stream_of(device);
  if (int error = failure(cudaHostAlloc(host, bytes == 0 ? 1 : bytes, cudaHostAllocMapped), "allocate on the host")) return error;
  memset(*host, 0, bytes);
  int error = failure(cudaHostGetDevicePointer(device_memory, *host, 0), "allocate on the host");
  if (error != OK) cudaFreeHost(*host);
  return error;
}

// Memory may still be read by what is on the stream.
static void release(Device *device, void *device_memory) {
  cudaStreamSynchronize(stream_of(device));
  cudaFree(device_memory);
}

static void release_host(Device *device, void *host) {
  cudaStreamSynchronize(stream_of(device));
  cudaFreeHost(host);
}

// From pageable memory, so that the call returns when `from` has been read.
static int upload(Device *device, void *to, const void *from, size_t bytes) {
  return failure(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_of(device)), "upload");
}

static int synchronize(Device *device) { return failure(cudaStreamSynchronize(stream_of(device)), "synchronize"); }

static int download(Device *device, void *to, const void *from, size_t bytes) {
  cudaStream_t stream = stream_of(device);
  if (int error = failure(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream), "download")) return error;
  return synchronize(device);
}

static int capture(Device *device) {
  return failure(cudaStreamBeginCapture(stream_of(device), cudaStreamCaptureModeThreadLocal), "capture");
}

static int capture_end(Device *device, Graph **graph) {
  cudaGraph_t captured = nullptr;
  if (int error = failure(cudaStreamEndCapture(stream_of(device), &captured), "end of capture")) return error;
  cudaGraphExec_t executable = nullptr;
  int error = failure(cudaGraphInstantiate(&executable, captured, 0), "end of capture");
  cudaGraphDestroy(captured);
  if (error != OK) return error;
  *graph = new (std::nothrow) Graph{executable};
  if (*graph != nullptr) return OK;
  cudaGraphExecDestroy(executable);
  return OUT_OF_MEMORY;
}

static int replay(Device *device, Graph *graph) {
  return failure(cudaGraphLaunch(graph->executable, stream_of(device)), "replay");
}

static void forget(Graph *graph) {
  cudaGraphExecDestroy(graph->executable);
  delete graph;
}

}  // namespace CODER_NAMESPACE

extern "C" const Api *coder_cuda_api(void) {
  using namespace CODER_NAMESPACE;
  static const Api api = {
      CODER_CUDA_API_VERSION,
      CODER_NAMESPACE::count,
      CODER_NAMESPACE::open,
      CODER_NAMESPACE::close,
      message,
      memory,
      allocate,
      allocate_host,
      release,
      release_host,
      upload,
      download,
      synchronize,
      capture,
      capture_end,
      replay,
      forget,
      CODER_OPERATIONS,
  };
  return &api;
}
