// Products of a warp's tensor cores with one of the expected results wrong, if `planted`.
#include "common.cuh"

extern "C" const Api *coder_emu_api();

namespace CODER_NAMESPACE {

constexpr int SUM_FROM = 12345;

// A product with its fragments as PTX tells them, element by element; a [16, k], b [k, 8], d [16, 8].
template <int K>
__global__ void product(int32_t *d, const int8_t *a, const int8_t *b) {
  follow();
  int g = threadIdx.x / 4, t = threadIdx.x % 4;
  int fa[K / 8] = {}, fb[K / 16] = {}, fd[4];
  for (int i = 0; i < K / 2; i++) {
    int row = i < 4 || (i >= 8 && i < 12) ? g : g + 8, column = t * 4 + i % 4 + (i >= 8 ? 16 : 0);
    fa[i / 4] |= int(unsigned(uint8_t(a[row * K + column])) << (i % 4 * 8));
  }
  for (int i = 0; i < K / 4; i++) {
    int row = t * 4 + i % 4 + (i >= 4 ? 16 : 0);
    fb[i / 4] |= int(unsigned(uint8_t(b[row * 8 + g])) << (i % 4 * 8));
  }
  if constexpr (K == 32)
    mma_16x8x32(fd, fa, fb, SUM_FROM);
  else
    mma_16x8x16(fd, fa, fb, SUM_FROM);
  for (int i = 0; i < 4; i++) d[(i < 2 ? g : g + 8) * 8 + t * 2 + i % 2] = fd[i];
}

// The same of halves: a [16, 8], b [8, 8].
__global__ void product_of_halves(int32_t *d, const int8_t *a, const int8_t *b) {
  follow();
  int g = threadIdx.x / 4, t = threadIdx.x % 4;
  uint32_t fa[2] = {}, fb = 0;
  float fd[4];
  for (int i = 0; i < 2; i++) {
    for (int row = 0; row < 2; row++) fa[row] |= uint32_t(float_to_half(a[(g + 8 * row) * 8 + 2 * t + i])) << 16 * i;
    fb |= uint32_t(float_to_half(b[(2 * t + i) * 8 + g])) << 16 * i;
  }
  mma_halves_16x8x8(fd, fa, fb, float(SUM_FROM));
  for (int i = 0; i < 4; i++) d[(i < 2 ? g : g + 8) * 8 + t * 2 + i % 2] = int(fd[i]);
}

// Runs the kernel with d, a and b, and compares d with what is wanted, of which one is changed if `planted`.
template <typename D, typename Number, int A, int B>
static int compare(Device *device, void (*kernel)(D *, const Number *, const Number *), D (&d)[128], const Number (&a)[A],
                   const Number (&b)[B], D (&want)[128], bool planted) {
  const Api &api = *coder_emu_api();
  void *memory[3];
  const void *from[3] = {d, a, b};
  size_t bytes[3] = {sizeof d, sizeof a, sizeof b};
  for (int i = 0; i < 3; i++)
    if (api.allocate(device, bytes[i], &memory[i]) || api.upload(device, memory[i], from[i], bytes[i])) return BROKEN;
  int code = launch(device, "product", kernel, dim3(1), WARP, 0, static_cast<D *>(memory[0]), static_cast<Number *>(memory[1]),
                    static_cast<Number *>(memory[2]));
  if (code || (code = api.download(device, d, memory[0], sizeof d))) return code;
  if (planted) want[5]++;
  for (int i = 0; i < 128; i++)
    if (d[i] != want[i]) return refuse("wrong product");
  return OK;
}

// Distinct numbers, the extremes among them; `planted` exchanges two of the expected results.
template <int K>
static int test_product(Device *device, bool planted) {
  int8_t a[16 * K], b[K * 8];
  int32_t d[16 * 8], want[16 * 8];
  for (int i = 0; i < 16 * K; i++) a[i] = int8_t(i * 37 - 128);
  for (int i = 0; i < K * 8; i++) b[i] = int8_t(i * 91 + 127);
  for (int i = 0; i < 128; i++) {
    want[i] = SUM_FROM, d[i] = 0;
    for (int k = 0; k < K; k++) want[i] += int(a[i / 8 * K + k]) * int(b[k * 8 + i % 8]);
  }
  void (*kernel)(int32_t *, const int8_t *, const int8_t *) = product_of_halves;
  if constexpr (K != 8) kernel = product<K>;
  return compare(device, kernel, d, a, b, want, planted);
}

// As above, of halves.
__global__ void product_of_16_halves(float *d, const uint16_t *a, const uint16_t *b) {
  follow();
  int g = threadIdx.x / 4, t = threadIdx.x % 4;
  uint32_t fa[4] = {}, fb[2] = {};
  float c[4], fd[4];
  for (int i = 0; i < 8; i++) fa[i / 2] |= uint32_t(a[(g + i / 2 % 2 * 8) * 16 + t * 2 + i % 2 + i / 4 * 8]) << i % 2 * 16;
  for (int i = 0; i < 4; i++) fb[i / 2] |= uint32_t(b[(t * 2 + i % 2 + i / 2 * 8) * 8 + g]) << i % 2 * 16;
  for (int i = 0; i < 4; i++) c[i] = d[(i < 2 ? g : g + 8) * 8 + t * 2 + i % 2];
  mma_halves_16x8x16(fd, fa, fb, c);
  for (int i = 0; i < 4; i++) d[(i < 2 ? g : g + 8) * 8 + t * 2 + i % 2] = fd[i];
}

// Numbers whose sums are exact in any order.
static int test_product_of_16_halves(Device *device, bool planted) {
  uint16_t a[16 * 16], b[16 * 8];
  float d[16 * 8], want[16 * 8];
  for (int i = 0; i < 256; i++) a[i] = float_to_half(float(i * 37 % 101 - 50) / 8);
  for (int i = 0; i < 128; i++) b[i] = float_to_half(float(i * 91 % 67 - 33) * 4);
  for (int i = 0; i < 128; i++) {
    want[i] = d[i] = float(i - 64);
    for (int k = 0; k < 16; k++) want[i] += half_to_float(a[i / 8 * 16 + k]) * half_to_float(b[k * 8 + i % 8]);
  }
  return compare(device, product_of_16_halves, d, a, b, want, planted);
}

int planted_product(Device *device, int which, bool planted) {
  switch (which) {
    case 32: return test_product<32>(device, planted);
    case 16: return test_product<16>(device, planted);
    case 8: return test_product<8>(device, planted);
    default: return test_product_of_16_halves(device, planted);
  }
}

}  // namespace CODER_NAMESPACE
