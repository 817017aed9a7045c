// The C interface between the CUDA library and its Rust side (api.rs mirrors it, field by field).
//
// One library exports one symbol that gives one table of functions: the library made by nvcc
// `coder_cuda_api`, the emulator `coder_emu_api`. Every function returns 0 or a code of `Failure`;
// `message` then has the words. Operations are put on the device's one stream and return at once; they are
// recorded instead while a graph is captured. All pointers in operations are device pointers. Functions may be called
// from any thread, also at once.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define CODER_CUDA_API_VERSION 6

typedef struct Device Device;  // one card, one stream
typedef struct Graph Graph;    // operations that were captured, ready to be replayed

enum Failure {
  OK = 0,
  NO_DRIVER = 1,      // no driver library on this machine
  DRIVER_TOO_OLD = 2, // driver older than the runtime that is linked in
  NO_DEVICE = 3,      // a driver, but no card, or no card with this index
  DEVICE_TOO_OLD = 4, // the card has no code in this library
  OUT_OF_MEMORY = 5,
  BROKEN = 6,         // anything else; the device must not be used any more
  REFUSED = 7,        // operands that no kernel takes: a programming error of the caller
};

typedef struct {
  char name[256];
  int32_t major, minor;          // compute capability
  int32_t multiprocessors;
  int32_t driver, runtime;       // versions as CUDA counts: 1000 · major + 10 · minor
  uint64_t total_bytes, free_bytes;
  double memory_bytes_per_s;     // peak of the memory bus, 0 if the driver does not tell
} DeviceInfo;

// ---- operands

// Activations [rows, cols], row major. `q`, `scale` and `sum` are their rounding to eight bits for products with
// quantized weights: x ≈ scale · q with a scale for each `shared` columns; null if `cols` is no multiple of 32. `units` below
// are ⌈cols / 128⌉, and four words of a unit's 32 are each of the first 16 columns of a run, four of its last 16.
typedef struct {
  float *x;        // [rows, cols]
  int8_t *q;       // [rows, units, 4, 4, 2, 4]: word t of the first half of run r, and of the last, at [t, r, …]
  float *scale;    // [rows, units, 4], of each run, or the first of the four if all share it
  uint32_t *sum;   // [rows, units, 4]: Σ q over the first and over the last 16 of a run, as halves
  int32_t rows;    // rows in use; operations run on exactly these
  int32_t cols;
  int32_t shared;  // columns that share a scale, 32 or 128: what the weights ask for that are to read the rounding
} Rows;

// The batch of this step. Rows beyond those of the batch are padding: token 0, position 0, no slot, no span.
typedef struct {
  const int32_t *tokens;     // [rows]
  const int32_t *positions;  // [rows]
  const int32_t *slots;      // [rows], -1 for none
  const int32_t *table_at;   // [rows] where the block table of the row's sequence begins in `tables`; -1 for padding
  const int32_t *tables;     // block tables, one behind the other
  const int32_t *logits;     // rows whose logits are wanted
  int32_t rows;              // of the bucket
  int32_t chunks;            // bucket of ⌈longest context / ATTENTION_CHUNK⌉ over the batch's rows
} Batch;

// How a run of weights is encoded; the order of `BlockType` in blocks.rs.
enum Type { F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, TYPES };

// A run of outputs in one encoding. Scales, scales of runs, high bits and low bits lie apart, in planes, so that each is read
// with wide loads: plane f is [experts · rows, ⌈cols / 128⌉ or cols / 256, bytes], as planes.rs has it. F32, F16 and BF16 have
// one plane, the numbers.
typedef struct {
  int32_t type;
  int32_t rows;              // outputs of one expert
  int32_t first;             // first output of the matrix that this part makes
  const uint8_t *plane[4];
} Part;

// Weights [experts, out, in].
typedef struct {
  Part part[4];
  int32_t parts;
  int32_t experts, out, cols;
} Matrix;

// One layer's keys and values, [slots, kv heads, dim] each. Type 0: f32. 1: f16. 2: q8_0, int8 with an f16 scale
// for each 32 columns of a head (the last run may be shorter), scales apart: [slots, kv heads, ⌈dim / 32⌉]. The columns of a q8_0
// head of 64 or 128 lie as lanes read them, see cache.cuh.
typedef struct {
  void *k, *v;
  uint16_t *k_scale, *v_scale;
  int32_t type;
  int32_t q_heads, kv_heads, dim;
} Cache;

// The experts of each row, [rows, top_k], and their order by expert for products of many rows.
typedef struct {
  int32_t *expert;   // [rows, top_k]
  float *weight;     // [rows, top_k]
  int32_t *order;    // [rows · top_k] entries r · top_k + j sorted by expert, then by entry
  int32_t *start;    // [experts + 1] where each expert's entries begin in `order`
  int32_t rows, top_k, experts;
} Routes;

enum { ATTENTION_CHUNK = 256, BLOCK = 32, MAX_HEAD = 256 };

typedef struct {
  double radians[MAX_HEAD / 2];  // per position, of each of the dim / 2 pairs
  const float *bias;             // [cols of qkv], added first, or null
  const float *q_norm, *k_norm;  // [dim] each, or null
  float eps;
} Rotation;

// The norm of an operation's rows x that follows it, of which there may be none: y = x / sqrt(mean(x²) + eps) · w, and its
// rounding if it has y.q.
typedef struct {
  Rows y;
  const float *w;  // [cols]
  float eps;
} Norm;

// Where rows that attend in several chunks at once leave the results of each: `places` times
// (kv heads, group, dim + 2) floats. Rows of a step whose places do not suffice do their chunks in sequence.
typedef struct {
  float *data;
  int32_t places;
} Partials;

enum { MAX_CANDIDATES = 128, CHOICE_PART = 2048, CHOICE_PARTS = 512, CHOICE_PIECE = 512 };

// What is wanted of rows of logits [rows, cols], and what is found; parts are ⌈cols / CHOICE_PART⌉, up to CHOICE_PARTS.
typedef struct {
  const int32_t *wanted;   // [rows, 2]: candidates, up to MAX_CANDIDATES, and words of the row's mask; -1: all may be chosen
  const uint32_t *masks;   // [rows, ⌈cols / 32⌉] bits, a token each, set if it may be chosen
  float *highest;          // [rows, parts], scratch
  uint64_t *best;          // [rows, parts, MAX_CANDIDATES], scratch
  uint64_t *found;         // [rows, 1 + MAX_CANDIDATES + ⌈cols / CHOICE_PIECE⌉]
} Choices;

typedef struct {
  int32_t version;
  // ---- the device
  int (*count)(int32_t *devices);
  int (*open)(int32_t index, Device **device, DeviceInfo *info);
  void (*close)(Device *);
  const char *(*message)(void);                         // of this thread's last failure
  int (*memory)(Device *, uint64_t *free_bytes, uint64_t *total_bytes);
  int (*allocate)(Device *, size_t bytes, void **device_memory);        // zeroed, 256-byte aligned
  int (*allocate_host)(Device *, size_t bytes, void **host, void **device_memory);  // zeroed, read by the device in place
  void (*release)(Device *, void *device_memory);
  void (*release_host)(Device *, void *host);
  int (*upload)(Device *, void *to, const void *from, size_t bytes);    // `from` may change after the return
  int (*download)(Device *, void *to, const void *from, size_t bytes);  // waits for what is on the stream
  int (*synchronize)(Device *);
  int (*capture)(Device *);
  int (*capture_end)(Device *, Graph **);               // also after a failure, to leave capture
  int (*replay)(Device *, Graph *);
  void (*forget)(Graph *);
  // ---- operations, see `Backend` in lib.rs. rms_norm, attention and swiglu also round y, if it has y.q
  int (*embed)(Device *, const Rows *x, const Matrix *table, const Batch *);
  int (*rms_norm)(Device *, const Rows *y, const Rows *x, const float *w, float eps);
  int (*quantize)(Device *, const Rows *x);             // fills q, scale, sum from x
  // To y, or instead of it, and what follows, or null.
  int (*matmul)(Device *, const Rows *y, const Rows *x, const Matrix *w, int32_t adds, const Norm *next);
  int (*bias)(Device *, const Rows *x, const float *b);
  int (*rope)(Device *, const Rows *qkv, const Cache *, const Rotation *, const Batch *);
  int (*attention)(Device *, const Rows *y, const Rows *qkv, const Cache *, const Batch *, const Partials *);
  int (*add)(Device *, const Rows *x, const Rows *y);
  int (*swiglu)(Device *, const Rows *y, const Rows *gate_up);
  int (*route)(Device *, const Routes *, const Rows *logits);
  int (*matmul_experts)(Device *, const Rows *y, const Rows *x, const Matrix *w, const Routes *, int32_t shared);
  // y = swiglu(w · x), dense or, with routes, of the experts of each row of x; gate_up is scratch for w · x.
  int (*matmul_swiglu)(Device *, const Rows *y, const Rows *x, const Matrix *w, const Routes *, const Rows *gate_up);
  // x[r] += Σ_j weight(r, j) · (w[expert(r, j)] · y[r · top_k + j]); h is scratch for the products.
  int (*matmul_experts_mix)(Device *, const Rows *x, const Rows *y, const Matrix *w, const Routes *, const Rows *h,
                            const Norm *next);
  // logits = w · x and their routes; qkv = w · x, rotated and kept.
  int (*matmul_route)(Device *, const Routes *, const Rows *logits, const Rows *x, const Matrix *w);
  int (*matmul_rope)(Device *, const Rows *qkv, const Rows *x, const Matrix *w, const Cache *, const Rotation *, const Batch *);
  int (*mix_experts)(Device *, const Rows *x, const Rows *y, const Routes *);
  int (*select)(Device *, const Rows *y, const Rows *x, const Batch *);
  int (*choose)(Device *, const Rows *logits, const Choices *);
} Api;
