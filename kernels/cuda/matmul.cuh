// What the kernels of products share: their operands, and the order in which a product is summed.
//
// The order, of encoded weights: the inputs of a row are units of 128. Unit u is added to sum u % SUMS, in ascending order
// (units.cuh), and the sums are added in ascending order. Of float weights see matmul_floats.cu. Every kernel sums so,
// whatever the number of rows, so which one the host picks cannot be seen.
#pragma once

#include "codes.cuh"

namespace CODER_NAMESPACE {

constexpr int SUMS = 8;

// Rows up to which weights are read for all of them together, and what follows a product may be its launch's.
constexpr int FEW_ROWS = 16;

// Rows up to which a row's experts are read for it alone.
constexpr int FEW_ROUTED = 8;

// Experts of a row up to which their products and the sum of these are one kernel.
constexpr int MIXED_EXPERTS = 8;

// y[e] = part[expert of e] · x[e / sharing] for entries e, or y[e] += that if `adds`. Without experts, an entry is a row.
struct Product {
  float *y;  // [entries, out]; the part makes columns first .. first + part.rows
  Rows x;    // [entries / sharing, cols]
  Part part;
  int32_t adds;
  int32_t out;
  int32_t entries;
  int32_t sharing;        // entries that read one row of x
  int32_t experts;
  const int32_t *expert;  // [entries], or null: every entry is expert 0's
  const int32_t *order;   // [entries] sorted by expert, or null: as they come
  const int32_t *start;   // [experts + 1] in `order`
};

// What a launch is called, by the type of its weights.
constexpr const char *PRODUCT[TYPES] = {"matmul F32",  "matmul F16",  "matmul BF16", "matmul Q4_0", "matmul Q4_1",
                                        "matmul Q5_0", "matmul Q5_1", "matmul Q8_0", "matmul Q2_K", "matmul Q3_K",
                                        "matmul Q4_K", "matmul Q5_K", "matmul Q6_K", "matmul IQ4_NL", "matmul IQ4_XS"};

constexpr const char *GATED[TYPES] = {"gated F32",  "gated F16",  "gated BF16", "gated Q4_0", "gated Q4_1",
                                      "gated Q5_0", "gated Q5_1", "gated Q8_0", "gated Q2_K", "gated Q3_K",
                                      "gated Q4_K", "gated Q5_K", "gated Q6_K", "gated IQ4_NL", "gated IQ4_XS"};

constexpr const char *MIXED[TYPES] = {"mixed F32",  "mixed F16",  "mixed BF16", "mixed Q4_0", "mixed Q4_1",
                                      "mixed Q5_0", "mixed Q5_1", "mixed Q8_0", "mixed Q2_K", "mixed Q3_K",
                                      "mixed Q4_K", "mixed Q5_K", "mixed Q6_K", "mixed IQ4_NL", "mixed IQ4_XS"};

constexpr const char *QKV = "matmul qkv";

// Output `o` of the matrix for entry e.
__device__ inline void put(const Product &p, int e, int o, float v) {
  float *to = p.y + size_t(e) * p.out + o;
  *to = p.adds ? *to + v : v;
}

// What follows a product of few rows in the same launch: their norm, if it has a weight; their routes, if there are experts; or
// nothing.
struct After {
  Norm norm;
  Routes routes;
};

// The launchers of the ways, by the part's type.
int matmul_few(Device *, const Product &, const Norm &next);
int matmul_many(Device *, const Product &);
int matmul_few_floats(Device *, const Product &, const After &);
int matmul_many_floats(Device *, const Product &);

// y and its rounding of the gated products of up to FEW_ROWS rows, with the part, gate, and `up`, of which output `shift` is the first.
int matmul_gated(Device *, const Rows &y, const Product &, const Part &up, int shift);

// y of the gated products of more rows, with a part whose rows are gate and up of the p.out columns of y.
int matmul_many_gated(Device *, const Product &);

// Adds to x the weighted sum of the products of each row's experts with the part, and makes its norm, if that has a weight.
int matmul_mixed(Device *, float *x, const Product &, const Routes &, const Norm &);

// The products of up to FEW_ROWS rows with parts of w that QKV_TYPES has, and the rotation of their heads.
int matmul_qkv(Device *, const Product &, const Matrix *w, const Cache &, const Rotation &, const Batch &);
bool qkv_type(int type);

}  // namespace CODER_NAMESPACE
