/*
 * AdamW in place (Loshchilov and Hutter 2019, algorithm 2), and the sum of squares for clipping by the global norm.
 */
#include "simd.h"

/* Squares are exact in double and sums of them as good as, so the norm of a billion gradients is still right. */
EXPORT double sumOfSquares(const float *x, int n) {
  v128_t low = wasm_f64x2_splat(0), high = wasm_f64x2_splat(0);
  int i = 0;
  for (; i + 4 <= n; i += 4) {
    float4 v = load(x + i);
    v128_t a = wasm_f64x2_promote_low_f32x4(v);
    v128_t b = wasm_f64x2_promote_low_f32x4(wasm_i64x2_shuffle(v, v, 1, 1));
    low = wasm_f64x2_add(low, wasm_f64x2_mul(a, a));
    high = wasm_f64x2_add(high, wasm_f64x2_mul(b, b));
  }
  v128_t both = wasm_f64x2_add(low, high);
  double total = wasm_f64x2_extract_lane(both, 0) + wasm_f64x2_extract_lane(both, 1);
  for (; i < n; i++) total += (double)x[i] * x[i];
  return total;
}

/*
 * With g = gradientScale x gradient (clipping), at step t = 1, 2, ...:
 *
 *   m = beta1 m + (1 - beta1) g      v = beta2 v + (1 - beta2) g^2
 *   w = w - rate (m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon) + decay w)
 *
 * Constants come as doubles and are combined before they are rounded: 1 - 0.999f is off in its fifth digit, and
 * 1 - rate x decay has lost most of the decay's digits, so what is to be subtracted is summed first.
 * correction1 = 1 / (1 - beta1^t), correction2 = 1 / (1 - beta2^t).
 */
EXPORT void adamw(float *w, float *m, float *v, const float *gradient, int n, double rate, double beta1, double beta2,
                  double epsilon, double decay, double correction1, double correction2, double gradientScale) {
  const float keep1 = (float)beta1, keep2 = (float)beta2, new1 = (float)(1 - beta1), new2 = (float)(1 - beta2);
  const float step = (float)(rate * correction1), shrink = (float)(rate * decay), unbias = (float)correction2;
  const float tiny = (float)epsilon, factor = (float)gradientScale;
  int i = 0;
  for (; i + 4 <= n; i += 4) {
    float4 g = mul(load(gradient + i), splat(factor));
    float4 m4 = add(mul(splat(keep1), load(m + i)), mul(splat(new1), g));
    float4 v4 = add(mul(splat(keep2), load(v + i)), mul(splat(new2), mul(g, g)));
    float4 w4 = load(w + i);
    float4 change = divide(mul(splat(step), m4), add(wasm_f32x4_sqrt(mul(v4, splat(unbias))), splat(tiny)));
    store(m + i, m4);
    store(v + i, v4);
    store(w + i, sub(w4, add(change, mul(splat(shrink), w4))));
  }
  for (; i < n; i++) {
    float g = gradient[i] * factor;
    m[i] = keep1 * m[i] + new1 * g;
    v[i] = keep2 * v[i] + new2 * (g * g);
    w[i] -= step * m[i] / (__builtin_sqrtf(v[i] * unbias) + tiny) + shrink * w[i];
  }
}
