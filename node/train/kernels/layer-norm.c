/*
 * Layer norm without bias over the last axis (Ba, Kiros and Hinton 2016): with h = (x - mean) / sqrt(variance + 1e-5),
 *
 *   y = gain h
 *   dx = (g - mean(g) - h mean(g h)) / sqrt(variance + 1e-5),  g = gain dy        dgain = sum over rows of dy h
 *
 * Rows are `width` floats, a multiple of 4. Mean and reciprocal deviation of every row are kept for the way back, h is
 * computed again. dgain is summed in blocks of rows, so that its error does not grow with the number of tokens.
 */
#include "simd.h"

#define GAIN_ROWS 64

EXPORT void layerNormForward(float *y, float *means, float *reciprocals, const float *x, const float *gain, int rows,
                             int width) {
  for (int i = 0; i < rows; i++, x += width, y += width) {
    float4 sum = splat(0);
    for (int c = 0; c < width; c += 4) sum = add(sum, load(x + c));
    float mean = sumLanes(sum) / (float)width;
    float4 mean4 = splat(mean), squares = splat(0);
    for (int c = 0; c < width; c += 4) {
      float4 d = sub(load(x + c), mean4);
      squares = multiplyAdd(d, d, squares);
    }
    float reciprocal = 1.0f / __builtin_sqrtf(sumLanes(squares) / (float)width + 1e-5f);
    float4 reciprocal4 = splat(reciprocal);
    for (int c = 0; c < width; c += 4)
      store(y + c, mul(mul(sub(load(x + c), mean4), reciprocal4), load(gain + c)));
    means[i] = mean;
    reciprocals[i] = reciprocal;
  }
}

/* dx of one row; adds the row's share of dgain to gainBlock */
static inline void rowBackward(float *dx, float *gainBlock, const float *dy, const float *x, float mean,
                               float reciprocal, const float *gain, int width) {
  float4 mean4 = splat(mean), reciprocal4 = splat(reciprocal), sum = splat(0), product = splat(0);
  for (int c = 0; c < width; c += 4) {
    float4 h = mul(sub(load(x + c), mean4), reciprocal4), d = load(dy + c), g = mul(d, load(gain + c));
    store(gainBlock + c, multiplyAdd(d, h, load(gainBlock + c)));
    sum = add(sum, g);
    product = multiplyAdd(g, h, product);
  }
  float4 meanG = splat(sumLanes(sum) / (float)width), meanGH = splat(sumLanes(product) / (float)width);
  for (int c = 0; c < width; c += 4) {
    float4 h = mul(sub(load(x + c), mean4), reciprocal4), g = mul(load(dy + c), load(gain + c));
    store(dx + c, mul(sub(sub(g, meanG), mul(h, meanGH)), reciprocal4));
  }
}

/* gainBlock: scratch of `width` floats */
EXPORT void layerNormBackward(float *dx, float *dgain, const float *dy, const float *x, const float *means,
                              const float *reciprocals, const float *gain, int rows, int width, float *gainBlock) {
  for (int c = 0; c < width; c++) dgain[c] = 0;
  for (int start = 0; start < rows; start += GAIN_ROWS) {
    for (int c = 0; c < width; c++) gainBlock[c] = 0;
    for (int i = start; i < min(start + GAIN_ROWS, rows); i++)
      rowBackward(dx + i * width, gainBlock, dy + i * width, x + i * width, means[i], reciprocals[i], gain, width);
    for (int c = 0; c < width; c += 4) store(dgain + c, add(load(dgain + c), load(gainBlock + c)));
  }
}
