// Products of weights with rows of activations, dense and by experts: which kernel makes them.
//
// The kernels are in matmul_few.cu, matmul_qkv.cu, matmul_gated.cu, matmul_mixed.cu, matmul_many.cu and matmul_floats.cu; all of
// a type sum in one order (matmul.cuh), so that a row's bits do not depend on the choice that is made here by the number of
// rows alone.
#include "matmul.cuh"
#include "rope.cuh"
#include "rounding.cuh"
#include "route.cuh"

namespace CODER_NAMESPACE {

// Columns of a rounding that are to share a scale for weights of a type.
static int shared_by(int type) {
  bool integers = type == Q2_K || type == Q3_K || type == Q4_K || type == Q5_K || type == Q6_K || type == IQ4_XS;
  return integers ? UNIT : RUN;
}

// A product of one part, whose rounding of x is made anew if it is not the one that the weights ask for.
static int product(Device *device, Product &p, bool few, const After &after) {
  if (is_float(p.part.type)) return few ? matmul_few_floats(device, p, after) : matmul_many_floats(device, p);
  if (p.x.q == nullptr || p.x.cols % RUN != 0) return refuse("a product of quantized weights whose columns are no multiple of 32");
  if (shared_by(p.part.type) != p.x.shared) {
    p.x.shared = shared_by(p.part.type);
    if (int failed = quantize(device, &p.x)) return failed;
  }
  return few ? matmul_few(device, p, after.norm) : matmul_many(device, p);
}

// A launch for each part: encodings differ from part to part.
static int products(Device *device, Product p, const Matrix *w, bool few, const After &after = {}) {
  if (p.entries == 0) return OK;
  if (w->cols < 1 || w->cols != p.x.cols) return refuse("a product whose weights have other columns than its input, or none");
  for (int i = 0; i < w->parts; i++) {
    p.part = w->part[i];
    if (p.part.rows == 0) continue;
    if (int failed = product(device, p, few, after)) return failed;
  }
  return OK;
}

static Product dense(const Rows *x, const Matrix *w) {
  Product p = {};
  p.x = *x, p.out = w->out, p.entries = x->rows, p.sharing = 1, p.experts = 1;
  return p;
}

// `order` and `start` are filled for more than FEW_ROUTED rows (experts.cu); no row takes an expert twice.
static Product of_experts(const Rows *x, const Matrix *w, const Routes *routes, bool shared) {
  Product p = {};
  p.x = *x, p.out = w->out, p.entries = routes->rows * routes->top_k, p.sharing = shared ? routes->top_k : 1;
  p.experts = routes->experts;
  p.expert = routes->expert, p.order = routes->order, p.start = routes->start;
  return p;
}

// Whether the launch of a product of few rows has a tail for what follows it: of its one part's.
static bool followed(const Matrix *w, int rows) { return rows <= FEW_ROWS && rows > 0 && w->parts == 1 && w->part[0].rows > 0; }

// Whether a tail makes the norm: it rounds.
static bool tail_makes(const Norm &norm) { return rounds(norm.y); }

int matmul(Device *device, const Rows *y, const Rows *x, const Matrix *w, int32_t adds, const Norm *next) {
  Product p = dense(x, w);
  p.y = y->x, p.adds = adds;
  bool few = x->rows <= FEW_ROWS;
  if (next && followed(w, x->rows) && tail_makes(*next) && next->y.cols == y->cols) return products(device, p, w, few, After{*next, {}});
  int failed = products(device, p, w, few);
  return failed || !next ? failed : rms_norm(device, &next->y, y, next->w, next->eps);
}

int matmul_route(Device *device, const Routes *routes, const Rows *logits, const Rows *x, const Matrix *w) {
  if (x->rows > FEW_ROUTED || !followed(w, x->rows) || !is_float(w->part[0].type) || !routable(*routes)) {
    int failed = matmul(device, logits, x, w, false, nullptr);
    return failed ? failed : route(device, routes, logits);
  }
  Product p = dense(x, w);
  p.y = logits->x;
  return products(device, p, w, true, After{{}, *routes});
}

int matmul_rope(Device *device, const Rows *qkv, const Rows *x, const Matrix *w, const Cache *cache, const Rotation *rotation,
                const Batch *batch) {
  bool together = x->rows <= FEW_ROWS && x->rows > 0 && rounds(*x) && w->cols == x->cols;
  for (int i = 0; i < w->parts; i++) together = together && qkv_type(w->part[i].type) && shared_by(w->part[i].type) == x->shared;
  if (!together || not_rotated(*qkv, *cache)) {
    int failed = matmul(device, qkv, x, w, false, nullptr);
    return failed ? failed : rope(device, qkv, cache, rotation, batch);
  }
  Product p = dense(x, w);
  p.y = qkv->x;
  return matmul_qkv(device, p, w, *cache, *rotation, *batch);
}

int matmul_experts(Device *device, const Rows *y, const Rows *x, const Matrix *w, const Routes *routes, int32_t shared) {
  Product p = of_experts(x, w, routes, shared);
  p.y = y->x;
  return products(device, p, w, routes->rows <= FEW_ROUTED);
}

// Whether one kernel makes the gated product: gate and up are of one type, in one part or in two.
static bool together(const Rows *y, const Rows *x, const Matrix *w) {
  const Part &first = w->part[0], &last = w->part[w->parts - 1];
  bool alike = first.type == last.type && first.rows == last.rows && first.rows * w->parts == 2 * y->cols;
  bool fits = !is_float(first.type) && rounds(*x) && w->cols == x->cols && shared_by(first.type) == x->shared;
  return w->parts <= 2 && alike && fits && rounds(*y);
}

int matmul_swiglu(Device *device, const Rows *y, const Rows *x, const Matrix *w, const Routes *routes, const Rows *gate_up) {
  int rows = routes ? routes->rows : x->rows;
  bool few = rows <= (routes ? FEW_ROUTED : FEW_ROWS);
  if (rows > 0 && (few || w->parts == 1) && together(y, x, w)) {
    Product p = routes ? of_experts(x, w, routes, true) : dense(x, w);
    p.part = w->part[0];
    if (few) return matmul_gated(device, *y, p, w->part[w->parts - 1], w->parts == 1 ? y->cols : 0);
    p.y = y->x, p.out = y->cols;
    int failed = matmul_many_gated(device, p);
    return failed ? failed : quantize(device, y);
  }
  int failed = routes ? matmul_experts(device, gate_up, x, w, routes, true) : matmul(device, gate_up, x, w, false, nullptr);
  return failed ? failed : swiglu(device, y, gate_up);
}

int matmul_experts_mix(Device *device, const Rows *x, const Rows *y, const Matrix *w, const Routes *routes, const Rows *h,
                       const Norm *next) {
  const Part &part = w->part[0];
  bool fits = !is_float(part.type) && rounds(*y) && w->cols == y->cols && shared_by(part.type) == y->shared;
  bool together = w->parts == 1 && fits && routes->top_k <= MIXED_EXPERTS;
  int failed;
  if (together && routes->rows > 0 && routes->rows <= FEW_ROUTED) {
    Product p = of_experts(y, w, routes, false);
    p.part = part;
    bool tail = next && tail_makes(*next) && next->y.cols == x->cols;
    failed = matmul_mixed(device, x->x, p, *routes, tail ? *next : Norm{});
    if (tail) return failed;
  } else {
    failed = matmul_experts(device, h, y, w, routes, false);
    if (!failed) failed = mix_experts(device, x, h, routes);
  }
  return failed || !next ? failed : rms_norm(device, &next->y, x, next->w, next->eps);
}

}  // namespace CODER_NAMESPACE
