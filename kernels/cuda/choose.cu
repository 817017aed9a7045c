// What rows of logits come down to, for a sampler that does not see them: the best tokens that are allowed, and the sum of
// all exponentials. choice.rs has the definition, which is kept to the bit. Two launches: the first cuts the best out of each
// part of a row, the second puts them in order and adds up.
#include "common.cuh"

namespace CODER_NAMESPACE {
namespace {

constexpr int CUT_THREADS = 256;
constexpr int EACH = CHOICE_PART / CUT_THREADS;

// Candidates as ranks: larger the better, all different, 0 for none.
struct Cut {
  uint64_t rank[CHOICE_PART];
  uint32_t mask[CHOICE_PART / 32];
  uint64_t best[CUT_THREADS / WARP];
  float highest[CUT_THREADS / WARP];
};

// Larger the larger the logit in the total order of IEEE 754, and of equals, the lower the token.
__device__ inline uint64_t rank_of(float logit, int token) {
  uint32_t bits = as_bits(logit);
  bits = bits >> 31 ? ~bits : bits | 0x80000000;
  return uint64_t(bits) << 32 | (0xFFFFFFFF - unsigned(token));
}

__device__ inline uint64_t warp_best(uint64_t rank) {
#pragma unroll
  for (int m = 1; m < WARP; m *= 2) {
    uint64_t other = shuffle_xor(rank, m);
    rank = other > rank ? other : rank;
  }
  return rank;
}

// The ranks of a block, the best first: Batcher's bitonic sort ("Sorting Networks and Their Applications", 1968).
__device__ inline void sort_block(uint64_t *rank) {
  for (int run = 2; run <= CHOICE_PART; run *= 2) {
    for (int apart = run / 2; apart > 0; apart /= 2) {
      sync_block();
      for (int pair = threadIdx.x; pair < CHOICE_PART / 2; pair += CUT_THREADS) {
        int low = 2 * pair - pair % apart, high = low + apart;
        uint64_t a = rank[low], b = rank[high];
        if ((a < b) == ((low & run) == 0)) rank[low] = b, rank[high] = a;
      }
    }
  }
  sync_block();
}

// highest [rows, parts] and best [rows, parts, MAX_CANDIDATES]: the largest logit of each part of a row, infinite where one
// is no number or infinite, and the part's best tokens, as many as are wanted of the row. A block for each 2048 columns
// of a row. Of a row of which all is wanted, nothing is read. Reads the logits once, and the masks out of the host's memory.
__global__ void __launch_bounds__(CUT_THREADS) cut_kernel(Rows logits, Choices to) {
  follow();
  Cut &cut = shared<Cut>();
  int part = blockIdx.x, row = blockIdx.y, first = part * CHOICE_PART, thread = threadIdx.x;
  int wanted = to.wanted[2 * row], given = to.wanted[2 * row + 1];
  if (wanted == 0) return;
  int words = ceil_div(logits.cols, 32);
  if (thread < CHOICE_PART / 32) {
    int word = first / 32 + thread;
    cut.mask[thread] = given < 0 ? 0xFFFFFFFF : word < given ? to.masks[size_t(row) * words + word] : 0;
  }
  sync_block();
  const float *x = logits.x + size_t(row) * logits.cols + first;
  int columns = min(CHOICE_PART, logits.cols - first);
  float highest = as_float(0xFF800000);
  uint64_t best = 0;
  float values[EACH];
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    int c = i * CUT_THREADS + thread;
    values[i] = c < columns ? x[c] : as_float(0xFF800000);
  }
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    int c = i * CUT_THREADS + thread;
    float v = values[i];
    highest = v < as_float(0x7F800000) ? fmaxf(highest, v) : as_float(0x7F800000);
    bool possible = v > as_float(0xFF800000) && (cut.mask[c / 32] >> c % 32 & 1) != 0;
    uint64_t rank = possible ? rank_of(v, first + c) : 0;
    cut.rank[c] = rank;
    best = rank > best ? rank : best;
  }
  // An infinite one is above all others that follow.
  highest = warp_max(highest);
  best = warp_best(best);
  if (thread % WARP == 0) cut.highest[thread / WARP] = highest, cut.best[thread / WARP] = best;
  sync_block();
  size_t place = size_t(row) * gridDim.x + part;
  if (thread == 0) {
    for (int w = 1; w < CUT_THREADS / WARP; w++) {
      highest = fmaxf(highest, cut.highest[w]);
      best = cut.best[w] > best ? cut.best[w] : best;
    }
    to.highest[place] = highest;
    if (wanted == 1) to.best[place * MAX_CANDIDATES] = best;
  }
  if (wanted == 1) return;
  sort_block(cut.rank);
  if (thread < wanted) to.best[place * MAX_CANDIDATES + thread] = cut.rank[thread];
}

constexpr int CHOOSE_WARPS = 8;
constexpr int PIECE = CHOICE_PIECE, PIECE_LANES = 16;

// e^x for x ≤ 0 as choice.rs has it, which does not fuse.
__device__ inline float exponential_below(float x) {
  const float ROUND = 12582912.0f;
  float clamped = fmaxf(x, -87.0f);
  float rounded = clamped * 1.44269504f + ROUND;
  float n = rounded - ROUND;
  float r = clamped - n * 0.6933594f - n * -2.1219444e-4f;
  float p = 1.9875691e-4f;
  p = p * r + 1.3981999e-3f;
  p = p * r + 8.333452e-3f;
  p = p * r + 4.1665796e-2f;
  p = p * r + 1.6666665e-1f;
  p = p * r + 0.5f;
  float power = as_float((as_bits(rounded) - as_bits(ROUND) + 127u) << 23);
  return x < -87.0f ? 0.0f : (p * r * r + r + 1.0f) * power;
}

// The row's largest logit: in all lanes of a warp.
__device__ inline float highest_of(const float *parts, int count) {
  float highest = as_float(0xFF800000);
  for (int p = threadIdx.x % WARP; p < count; p += WARP) highest = fmaxf(highest, parts[p]);
  return warp_max(highest);
}

// The best of lists that are each in order, by one warp: a lane has every 32nd list, its best head, and how far they are.
__device__ inline void merge(uint64_t *to, const uint64_t *lists, int count, int wanted, int *taken) {
  int lane = threadIdx.x % WARP;
  uint64_t best = 0;
  for (int l = lane; l < count; l += WARP) {
    uint64_t head = lists[size_t(l) * MAX_CANDIDATES];
    taken[l] = 0;
    best = head > best ? head : best;
  }
  for (int i = 0; i < wanted; i++) {
    uint64_t next = warp_best(best);
    if (lane == 0) to[i] = next;
    if (next != best || next == 0) continue;
    // Ranks differ, so this lane alone has it.
    best = 0;
    for (int l = lane; l < count; l += WARP) {
      const uint64_t *list = lists + size_t(l) * MAX_CANDIDATES;
      if (taken[l] < wanted && list[taken[l]] == next) taken[l]++;
      uint64_t head = taken[l] < wanted ? list[taken[l]] : 0;
      best = head > best ? head : best;
    }
  }
}

struct Merge {
  int taken[CHOICE_PARTS];
};

// found [rows, 1 + MAX_CANDIDATES + pieces]: of each row the largest logit's bits, the best tokens' ranks in order, and
// for each 512 columns Σ exp(x - highest), sixteen sums in f32 side by side that are added up in f64. The first block of a
// row merges, each of the others has sixteen pieces, half a warp a piece. Reads the logits once more.
__global__ void __launch_bounds__(CHOOSE_WARPS * WARP) choose_kernel(Rows logits, Choices to, int parts) {
  follow();
  int row = blockIdx.y, wanted = to.wanted[2 * row], pieces = ceil_div(logits.cols, PIECE);
  if (wanted == 0) return;
  uint64_t *found = to.found + size_t(row) * (1 + MAX_CANDIDATES + pieces);
  float highest = highest_of(to.highest + size_t(row) * parts, parts);
  if (blockIdx.x == 0) {
    if (threadIdx.x >= WARP) return;
    if (threadIdx.x == 0) found[0] = as_bits(highest);
    merge(found + 1, to.best + size_t(row) * parts * MAX_CANDIDATES, parts, wanted, shared<Merge>().taken);
    return;
  }
  int half = threadIdx.x / PIECE_LANES, lane = threadIdx.x % PIECE_LANES;
  int piece = (blockIdx.x - 1) * (CHOOSE_WARPS * 2) + half, first = piece * PIECE;
  // Lanes behind the last piece have columns of none, and take part in the exchanges.
  int columns = max(0, min(PIECE, logits.cols - first)), whole = columns / PIECE_LANES;
  const float *x = logits.x + size_t(row) * logits.cols + first;
  float sum = 0.0f;
#pragma unroll 8
  for (int i = 0; i < whole; i++) sum += exponential_below(x[i * PIECE_LANES + lane] - highest);
  int rest = columns % PIECE_LANES;
  float last = lane < rest ? exponential_below(x[whole * PIECE_LANES + lane] - highest) : 0.0f;
  int begin = threadIdx.x % WARP - lane;
  double total = 0.0;
#pragma unroll
  for (int l = 0; l < PIECE_LANES; l++) total += double(shuffle(sum, begin + l));
#pragma unroll
  for (int l = 0; l < PIECE_LANES; l++) total += double(shuffle(last, begin + l));
  if (lane == 0 && columns > 0) reinterpret_cast<double *>(found)[1 + MAX_CANDIDATES + piece] = total;
}

}  // namespace

int choose(Device *device, const Rows *logits, const Choices *to) {
  if (logits->rows == 0) return OK;
  int parts = ceil_div(logits->cols, CHOICE_PART), pieces = ceil_div(logits->cols, PIECE);
  if (parts > CHOICE_PARTS) return refuse("choose: more tokens than a row of logits may have");
  dim3 cuts(parts, logits->rows), blocks(1 + ceil_div(pieces, CHOOSE_WARPS * 2), logits->rows);
  if (int error = launch(device, "choose_cut", cut_kernel, cuts, CUT_THREADS, sizeof(Cut), *logits, *to)) return error;
  return launch(device, "choose", choose_kernel, blocks, CHOOSE_WARPS * WARP, sizeof(Merge), *logits, *to, parts);
}

}  // namespace CODER_NAMESPACE
