// Products of weights with rows of activations, dense and by experts: which kernel makes them.
//
// The kernels are in matmul_few.cu and matmul_many.cu; all sum in one order (matmul.cuh), so that a row's bits do not
// depend on the choice that is made here by the number of rows alone.
#include "matmul.cuh"

namespace CODER_NAMESPACE {

// A launch for all parts of one type, or with many rows for each part.
static int products(Device *device, Product p, const Matrix *w, bool few) {
  if (p.entries == 0) return OK;
  if (w->cols < 1 || w->cols != p.x.cols) return refuse("a product whose weights have other columns than its input, or none");
  for (int i = 0; i < w->parts; i++) {
    int type = w->part[i].type;
    if (!is_float(type) && (p.x.q == nullptr || w->cols % RUN != 0)) {
      return refuse("a product of quantized weights whose columns are no multiple of 32");
    }
    bool done = false;
    for (int j = 0; j < i; j++) done = done || (few && w->part[j].type == type);
    if (done) continue;
    p.parts = 0;
    for (int j = i; j < (few ? w->parts : i + 1); j++) {
      if (w->part[j].type == type && w->part[j].rows > 0) p.part[p.parts++] = w->part[j];
    }
    int failed = p.parts == 0 ? OK : few ? matmul_few(device, p) : matmul_many(device, p);
    if (failed != OK) return failed;
  }
  return OK;
}

int matmul(Device *device, const Rows *y, const Rows *x, const Matrix *w, int32_t adds) {
  Product p = {};
  p.y = y->x, p.x = *x, p.adds = adds;
  p.out = w->out, p.entries = p.most = x->rows, p.sharing = 1, p.experts = 1;
  return products(device, p, w, x->rows <= FEW_ROWS);
}

// `order` and `start` are filled for more than FEW_ROWS rows (experts.cu); no row takes an expert twice.
int matmul_experts(Device *device, const Rows *y, const Rows *x, const Matrix *w, const Routes *routes, int32_t shared) {
  Product p = {};
  p.y = y->x, p.x = *x;
  p.out = w->out, p.entries = routes->rows * routes->top_k, p.sharing = shared ? routes->top_k : 1;
  p.most = routes->rows, p.experts = routes->experts;
  p.expert = routes->expert, p.order = routes->order, p.start = routes->start;
  return products(device, p, w, routes->rows <= FEW_ROWS);
}

}  // namespace CODER_NAMESPACE
