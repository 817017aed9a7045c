// Products of weights with rows of activations, dense and by experts: which kernel makes them.
//
// The kernels are in matmul_few.cu, matmul_gated.cu, matmul_mixed.cu and matmul_many.cu; all sum in one order (matmul.cuh), so that a row's bits do not
// depend on the choice that is made here by the number of rows alone.
#include "matmul.cuh"

namespace CODER_NAMESPACE {

// A launch for each part: encodings differ from part to part.
static int products(Device *device, Product p, const Matrix *w, bool few) {
  if (p.entries == 0) return OK;
  if (w->cols < 1 || w->cols != p.x.cols) return refuse("a product whose weights have other columns than its input, or none");
  for (int i = 0; i < w->parts; i++) {
    p.part = w->part[i];
    if (p.part.rows == 0) continue;
    if (!is_float(p.part.type) && (p.x.q == nullptr || w->cols % RUN != 0)) {
      return refuse("a product of quantized weights whose columns are no multiple of 32");
    }
    int failed = few ? matmul_few(device, p) : matmul_many(device, p);
    if (failed != OK) return failed;
  }
  return OK;
}

static Product dense(const Rows *x, const Matrix *w) {
  Product p = {};
  p.x = *x, p.out = w->out, p.entries = p.most = x->rows, p.sharing = 1, p.experts = 1;
  return p;
}

// `order` and `start` are filled for more than FEW_ROWS rows (experts.cu); no row takes an expert twice.
static Product of_experts(const Rows *x, const Matrix *w, const Routes *routes, bool shared) {
  Product p = {};
  p.x = *x, p.out = w->out, p.entries = routes->rows * routes->top_k, p.sharing = shared ? routes->top_k : 1;
  p.most = routes->rows, p.experts = routes->experts;
  p.expert = routes->expert, p.order = routes->order, p.start = routes->start;
  return p;
}

int matmul(Device *device, const Rows *y, const Rows *x, const Matrix *w, int32_t adds) {
  Product p = dense(x, w);
  p.y = y->x, p.adds = adds;
  return products(device, p, w, x->rows <= FEW_ROWS);
}

int matmul_experts(Device *device, const Rows *y, const Rows *x, const Matrix *w, const Routes *routes, int32_t shared) {
  Product p = of_experts(x, w, routes, shared);
  p.y = y->x;
  return products(device, p, w, routes->rows <= FEW_ROWS);
}

// Whether one kernel makes the gated product: gate and up are of one type, in one part or in two, and a block makes what
// shares a scale.
static bool together(const Rows *y, const Rows *x, const Matrix *w) {
  const Part &first = w->part[0], &last = w->part[w->parts - 1];
  bool alike = first.type == last.type && first.rows == last.rows && first.rows * w->parts == 2 * y->cols;
  bool fits = is_float(first.type) || (x->q && w->cols % RUN == 0);
  return w->parts <= 2 && alike && fits && y->q && y->cols % RUN == 0 && w->cols == x->cols && w->cols >= 1;
}

int matmul_swiglu(Device *device, const Rows *y, const Rows *x, const Matrix *w, const Routes *routes, const Rows *gate_up) {
  int rows = routes ? routes->rows : x->rows;
  if (rows > 0 && rows <= (routes ? FEW_ROWS : GATED_ROWS) && together(y, x, w)) {
    Product p = routes ? of_experts(x, w, routes, true) : dense(x, w);
    p.part = w->part[0];
    return matmul_gated(device, *y, p, w->part[w->parts - 1], w->parts == 1 ? y->cols : 0);
  }
  int failed = routes ? matmul_experts(device, gate_up, x, w, routes, true) : matmul(device, gate_up, x, w, false);
  return failed ? failed : swiglu(device, y, gate_up);
}

int matmul_experts_mix(Device *device, const Rows *x, const Rows *y, const Matrix *w, const Routes *routes, const Rows *h) {
  const Part &part = w->part[0];
  bool fits = is_float(part.type) || (y->q && w->cols % RUN == 0);
  bool together = w->parts == 1 && fits && w->cols == y->cols && w->cols >= 1 && routes->top_k <= MIXED_EXPERTS;
  if (together && routes->rows > 0 && routes->rows <= FEW_ROWS) {
    Product p = of_experts(y, w, routes, false);
    p.part = part;
    return matmul_mixed(device, x->x, p, *routes);
  }
  int failed = matmul_experts(device, h, y, w, routes, false);
  return failed ? failed : mix_experts(device, x, h, routes);
}

}  // namespace CODER_NAMESPACE
