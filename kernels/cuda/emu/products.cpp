// Products of a warp's tensor cores, from and to PTX's fragments.
#include <cstring>

#include "machine.h"

namespace CODER_NAMESPACE {

static double number(int word, int i, bool halves) {
  return halves ? double(half_to_float(uint16_t(unsigned(word) >> 16 * i))) : double(int8_t(word >> 8 * i));
}

// With g = lane / 4, t = lane % 4 and EACH numbers to a word: a[i] is row g + 8 · (i odd) from column EACH · (t + 4 · (i / 2)) on,
// b[i] column g from row EACH · (t + 4 · i) on, d[i] is row g + 8 · (i / 2), column 2 · t + i % 2. Sums of bytes are exact; those of
// halves are, but for one rounding at the end.
void multiply(Depth of, const int (&a)[LANES][4], const int (&b)[LANES][2], Fragment (&d)[LANES]) {
  bool halves = of == HALVES_8 || of == HALVES_16;
  int each = halves ? 2 : 4, words = of == BYTES_16 || of == HALVES_8 ? 1 : 2, depth = 4 * each * words;
  double left[16][32], right[8][32];
  for (int lane = 0; lane < LANES; lane++) {
    int g = lane / 4, t = lane % 4;
    for (int i = 0; i < words; i++) {
      for (int j = 0; j < each; j++) {
        int column = each * (t + 4 * i) + j;
        left[g][column] = number(a[lane][2 * i], j, halves);
        left[g + 8][column] = number(a[lane][2 * i + 1], j, halves);
        right[g][column] = number(b[lane][i], j, halves);
      }
    }
  }
  for (int row = 0; row < 16; row++) {
    for (int column = 0; column < 8; column++) {
      double sum = 0;
      for (int i = 0; i < depth; i++) sum += left[row][i] * right[column][i];
      d[row % 8 * 4 + column / 2].d[row / 8 * 2 + column % 2] = halves ? int(as_bits(float(sum))) : int(sum);
    }
  }
}

}  // namespace CODER_NAMESPACE
