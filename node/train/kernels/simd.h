/*
 * What every kernel shares: four-lane float arithmetic, exponential and logarithm. The kernels run inside the heap of
 * the TF.js wasm backend (imported memory), so they own no memory at all: no globals, no data segments, no stack slots,
 * no C library. Scratch space comes in as an argument.
 */
#ifndef OUTERLOOP_SIMD_H
#define OUTERLOOP_SIMD_H

#include <wasm_simd128.h>

#define EXPORT __attribute__((visibility("default")))

typedef v128_t float4;

#define load(p) wasm_v128_load(p)
#define store(p, x) wasm_v128_store(p, x)
#define splat(x) wasm_f32x4_splat(x)
#define add(a, b) wasm_f32x4_add(a, b)
#define sub(a, b) wasm_f32x4_sub(a, b)
#define mul(a, b) wasm_f32x4_mul(a, b)
#define divide(a, b) wasm_f32x4_div(a, b)

/* a * b + c. The relaxed form rounds once where the CPU can, which differs between CPUs; the plain one never does. */
static inline float4 multiplyAdd(float4 a, float4 b, float4 c) {
#ifdef RELAXED
  return __builtin_wasm_relaxed_madd_f32x4(a, b, c);
#else
  return add(mul(a, b), c);
#endif
}

static inline int min(int a, int b) { return a < b ? a : b; }
static inline float larger(float a, float b) { return a > b ? a : b; }

static inline float sumLanes(float4 x) {
  return (wasm_f32x4_extract_lane(x, 0) + wasm_f32x4_extract_lane(x, 2)) +
         (wasm_f32x4_extract_lane(x, 1) + wasm_f32x4_extract_lane(x, 3));
}

/*
 * exp(x) to about 1 ulp (Cephes expf): x = n ln 2 + r with |r| <= ln 2 / 2, exp(r) by a polynomial, 2^n through the
 * exponent bits. ln 2 is split in two so that n ln 2 is subtracted exactly. A NaN stays a NaN (pmin and pmax return their
 * first operand unless the second compares smaller or greater).
 *
 * Clamped to e^-50 .. e^50, 15 decimal orders beyond what a softmax or a sigmoid in float32 can feel. Smaller results would
 * make denormal products wherever they are multiplied, and a processor takes a hundred times as long over each: a model
 * whose softmax saturates trained twenty times as slowly.
 */
#define EXP_MAX 50.0f
static inline float4 exp4(float4 x) {
  x = wasm_f32x4_pmin(wasm_f32x4_pmax(x, splat(-EXP_MAX)), splat(EXP_MAX));
  const float4 roundToInteger = splat(12582912.0f); /* 1.5 x 2^23: adding it leaves the integer in the low bits */
  float4 shifted = add(mul(x, splat(1.44269504088896341f)), roundToInteger);
  float4 n = sub(shifted, roundToInteger);
  float4 r = sub(sub(x, mul(n, splat(0.693359375f))), mul(n, splat(-2.12194440e-4f)));
  float4 p = splat(1.9875691500e-4f);
  p = multiplyAdd(p, r, splat(1.3981999507e-3f));
  p = multiplyAdd(p, r, splat(8.3334519073e-3f));
  p = multiplyAdd(p, r, splat(4.1665795894e-2f));
  p = multiplyAdd(p, r, splat(1.6666665459e-1f));
  p = multiplyAdd(p, r, splat(5.0000001201e-1f));
  p = add(multiplyAdd(p, mul(r, r), r), splat(1.0f));
  float4 powerOfTwo = wasm_i32x4_add(wasm_i32x4_shl(shifted, 23), wasm_i32x4_splat(127 << 23));
  return mul(p, powerOfTwo);
}

static inline float exp1(float x) { return wasm_f32x4_extract_lane(exp4(splat(x)), 0); }

/* log(x) for a normal x > 0 (Cephes logf); infinity and NaN come back as they are. */
static inline float log1(float x) {
  if (!(x < __builtin_inff())) return x;
  unsigned bits = __builtin_bit_cast(unsigned, x);
  int exponent = (int)((bits >> 23) & 255) - 126;
  float m = __builtin_bit_cast(float, (bits & 0x7fffff) | 0x3f000000); /* mantissa in [0.5, 1) */
  if (m < 0.707106781186547524f) {
    exponent--;
    m = m + m;
  }
  m -= 1.0f;
  float z = m * m;
  float p = 7.0376836292e-2f;
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  float y = p * m * z - 2.12194440e-4f * (float)exponent - 0.5f * z;
  return m + y + 0.693359375f * (float)exponent;
}

/* Largest of n > 0 values. A NaN may be passed over here; it comes back in the sum of the exponentials. */
static inline float maximum(const float *x, int n) {
  float4 best4 = splat(x[0]);
  int i = 0;
  for (; i + 4 <= n; i += 4) best4 = wasm_f32x4_pmax(best4, load(x + i));
  float best = larger(larger(wasm_f32x4_extract_lane(best4, 0), wasm_f32x4_extract_lane(best4, 1)),
                      larger(wasm_f32x4_extract_lane(best4, 2), wasm_f32x4_extract_lane(best4, 3)));
  for (; i < n; i++) best = larger(best, x[i]);
  return best;
}

/*
 * y = exp(x - shift) over n values, returns the sum of y. x may be y. Sums of 1024 values go into a double, so that
 * a vocabulary of a million loses no more than one of a thousand.
 */
static inline double shiftedExponentials(float *y, const float *x, float shift, int n) {
  const float4 shift4 = splat(shift);
  double total = 0;
  int i = 0;
  while (i + 4 <= n) {
    int end = min(i + 1024, n);
    float4 sum4 = splat(0);
    for (; i + 4 <= end; i += 4) {
      float4 e = exp4(sub(load(x + i), shift4));
      store(y + i, e);
      sum4 = add(sum4, e);
    }
    total += sumLanes(sum4);
  }
  for (; i < n; i++) {
    y[i] = exp1(x[i] - shift);
    total += y[i];
  }
  return total;
}

static inline void scaleInPlace(float *x, float factor, int n) {
  const float4 factor4 = splat(factor);
  int i = 0;
  for (; i + 4 <= n; i += 4) store(x + i, mul(load(x + i), factor4));
  for (; i < n; i++) x[i] *= factor;
}

void gemm(float *c, int strideC, const float *a, int strideA, int transposeA, const float *b, int strideB,
          int transposeB, int rows, int columns, int depth, float scale, int accumulate, float *scratch);

#endif
