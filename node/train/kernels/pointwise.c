/*
 * Kernels over single elements or single tokens: GELU, embedding, sums of tensors.
 *
 * GELU in its tanh form (Hendrycks and Gimpel 2016): gelu(x) = x / 2 (1 + tanh(u)), u = sqrt(2/pi) (x + 0.044715 x^3).
 * As (1 + tanh u) / 2 = sigmoid(2u) =: s, gelu(x) = x s and gelu'(x) = s + x s (1 - s) d(2u)/dx: one exponential each.
 */
#include "simd.h"

#define TWO_K 1.5957691216057308f /* 2 sqrt(2 / pi) */
#define CUBIC 0.044715f

static inline float4 sigmoidOf2u(float4 x) {
  float4 u2 = mul(x, multiplyAdd(splat(TWO_K * CUBIC), mul(x, x), splat(TWO_K)));
  return divide(splat(1), add(splat(1), exp4(wasm_f32x4_neg(u2))));
}

/* n is a multiple of 4 in all that follows, as every width is. */
EXPORT void geluForward(float *y, const float *x, int n) {
  for (int i = 0; i < n; i += 4) {
    float4 v = load(x + i);
    store(y + i, mul(v, sigmoidOf2u(v)));
  }
}

EXPORT void geluBackward(float *dx, const float *dy, const float *x, int n) {
  for (int i = 0; i < n; i += 4) {
    float4 v = load(x + i), s = sigmoidOf2u(v);
    float4 xSlope = mul(v, multiplyAdd(splat(3 * TWO_K * CUBIC), mul(v, v), splat(TWO_K))); /* x d(2u)/dx */
    store(dx + i, mul(load(dy + i), mul(s, multiplyAdd(xSlope, sub(splat(1), s), splat(1)))));
  }
}

EXPORT void addForward(float *y, const float *a, const float *b, int n) {
  for (int i = 0; i < n; i += 4) store(y + i, add(load(a + i), load(b + i)));
}

/* y += factor x, for any n: sums the gradients of micro-batches */
EXPORT void addScaled(float *y, const float *x, float factor, int n) {
  float4 factor4 = splat(factor);
  int i = 0;
  for (; i + 4 <= n; i += 4) store(y + i, add(load(y + i), mul(load(x + i), factor4)));
  for (; i < n; i++) y[i] += x[i] * factor;
}

/* y [tokens, width] = embedding [vocabulary, width] at each id, plus position [context, width] at its place */
EXPORT void embedForward(float *y, const float *embedding, const float *position, const int *ids, int tokens,
                         int context, int width) {
  for (int i = 0; i < tokens; i++)
    addForward(y + i * width, embedding + ids[i] * width, position + i % context * width, width);
}

/* dembedding and dposition must hold zeros; ids must be below the vocabulary, the caller has checked it */
EXPORT void embedBackward(float *dembedding, float *dposition, const float *dy, const int *ids, int tokens, int context,
                          int width) {
  for (int i = 0; i < tokens; i++, dy += width) {
    float *row = dembedding + ids[i] * width, *place = dposition + i % context * width;
    addForward(row, row, dy, width);
    addForward(place, place, dy, width);
  }
}
