// e^x in f32, the same bits as on a processor that fuses (cpu/exp.rs), so that no library's own changes a result.
//
// Source: the range reduction and the polynomial of `expf` in Moshier's Cephes library: x is n · ln 2 + r with a whole
// n and |r| ≤ ln 2 / 2, and e^r is a polynomial of degree 7. The error is below 2 units in the last place.
#pragma once

#include "common.cuh"

namespace CODER_NAMESPACE {

// 0 below -86.36, infinity above 88.73, not a number for what is none.
__device__ inline float exponential(float x) {
  const float LOW = -86.36f, HIGH = 89.0f;
  // Numbers from half to twice this have no digits after the point: adding it rounds to a whole number, which then
  // stands in the lowest bits.
  const float ROUND = 12582912.0f;
  // What is no number passes both comparisons.
  float inside = LOW > x ? LOW : x;
  inside = HIGH < inside ? HIGH : inside;
  float n_rounded = fmaf(inside, 1.44269504f, ROUND);
  float n = n_rounded - ROUND;
  // ln 2 in two parts, of which the first has so few digits that its product with n is exact.
  float r = fmaf(n, 2.12194440e-4f, fmaf(n, -0.693359375f, inside));
  // All twice: with 2^(n - 1) in place of 2^n the largest results need no exponent beyond f32's.
  float p = 2.0f * 1.9875691500e-4f;
  p = fmaf(p, r, 2.0f * 1.3981999507e-3f);
  p = fmaf(p, r, 2.0f * 8.3334519073e-3f);
  p = fmaf(p, r, 2.0f * 4.1665795894e-2f);
  p = fmaf(p, r, 2.0f * 1.6666665459e-1f);
  p = fmaf(p, r, 2.0f * 5.0000001201e-1f);
  float twice = fmaf(p, r * r, fmaf(2.0f, r, 2.0f));
  float power = as_float((as_bits(n_rounded) << 23) + (126u << 23));
  return x < LOW ? 0.0f : twice * power;
}

// silu(gate) · up (Shazeer, "GLU Variants Improve Transformer", 2020).
__device__ inline float gated(float gate, float up) { return gate / (1.0f + exponential(0.0f - gate)) * up; }

}  // namespace CODER_NAMESPACE
