/*
 * Causal self-attention. Per sequence and head, with d = width / heads:
 *
 *   S = Q K^T / sqrt(d)      P = softmax(S), row i over the columns j <= i      Y = P V
 *
 * and backwards, from dY (the softmax's Jacobian is diag(p) - p p^T):
 *
 *   dV = P^T dY      dP = dY V^T      dS_ij = P_ij (dP_ij - sum_k dP_ik P_ik) / sqrt(d)      dQ = dS K      dK = dS^T Q
 *
 * Rows are taken in blocks; a block that begins at row i needs only the first i + ROWS columns, which saves almost half.
 *
 * qkv [sequences x context, 3 width]: a row holds q, k and v of one token, heads side by side in each.
 * probabilities [sequences, heads, context, context]: kept for the way back; above the diagonal of a block it is unset.
 */
#include "simd.h"

#define ROWS 48

/* In place: scores of query i become probabilities; columns i + 1 .. columns get zero. */
static void causalSoftmax(float *row, int i, int columns) {
  int length = i + 1;
  double sum = shiftedExponentials(row, row, maximum(row, length), length);
  scaleInPlace(row, (float)(1.0 / sum), length);
  for (int j = length; j < columns; j++) row[j] = 0;
}

/* In place: dP of one row becomes dS (without the 1 / sqrt(d), which the gemms that follow apply). */
static void softmaxBackward(float *gradient, const float *probability, int n) {
  float4 sum4 = splat(0);
  int j = 0;
  for (; j + 4 <= n; j += 4) sum4 = multiplyAdd(load(gradient + j), load(probability + j), sum4);
  float sum = sumLanes(sum4);
  for (; j < n; j++) sum += gradient[j] * probability[j];
  sum4 = splat(sum);
  for (j = 0; j + 4 <= n; j += 4)
    store(gradient + j, mul(load(probability + j), sub(load(gradient + j), sum4)));
  for (; j < n; j++) gradient[j] = probability[j] * (gradient[j] - sum);
}

static void headForward(float *y, float *p, const float *q, int context, int width, int headWidth, float *scratch) {
  const int stride = 3 * width;
  const float *k = q + width, *v = q + 2 * width;
  const float scale = 1.0f / __builtin_sqrtf((float)headWidth);
  for (int i = 0; i < context; i += ROWS) {
    int rows = min(ROWS, context - i), columns = i + rows;
    float *block = p + i * context;
    gemm(block, context, q + i * stride, stride, 0, k, stride, 1, rows, columns, headWidth, scale, 0, scratch);
    for (int r = 0; r < rows; r++) causalSoftmax(block + r * context, i + r, columns);
    gemm(y + i * width, width, block, context, 0, v, stride, 0, rows, headWidth, columns, 1.0f, 0, scratch);
  }
}

/* Blocks go from the last, whose columns are all of them, to the first: so dK and dV are first set, then added to. */
static void headBackward(float *dq, const float *dy, const float *p, const float *q, float *ds, int context, int width,
                         int headWidth, float *scratch) {
  const int stride = 3 * width;
  const float *k = q + width, *v = q + 2 * width;
  float *dk = dq + width, *dv = dq + 2 * width;
  const float scale = 1.0f / __builtin_sqrtf((float)headWidth);
  for (int i = (context - 1) / ROWS * ROWS; i >= 0; i -= ROWS) {
    int rows = min(ROWS, context - i), columns = i + rows, added = columns < context;
    const float *block = p + i * context, *dyBlock = dy + i * width;
    gemm(ds, context, dyBlock, width, 0, v, stride, 1, rows, columns, headWidth, 1.0f, 0, scratch);
    for (int r = 0; r < rows; r++) softmaxBackward(ds + r * context, block + r * context, columns);
    gemm(dq + i * stride, stride, ds, context, 0, k, stride, 0, rows, headWidth, columns, scale, 0, scratch);
    gemm(dk, stride, ds, context, 1, q + i * stride, stride, 0, columns, headWidth, rows, scale, added, scratch);
    gemm(dv, stride, block, context, 1, dyBlock, width, 0, columns, headWidth, rows, 1.0f, added, scratch);
  }
}

/* y [sequences x context, width] */
EXPORT void attentionForward(float *y, float *probabilities, const float *qkv, int sequences, int context, int heads,
                             int width, float *scratch) {
  int headWidth = width / heads;
  for (int s = 0; s < sequences; s++)
    for (int h = 0; h < heads; h++)
      headForward(y + s * context * width + h * headWidth, probabilities + (s * heads + h) * context * context,
                  qkv + s * context * 3 * width + h * headWidth, context, width, headWidth, scratch);
}

/* Floats of `ds`, the scratch for one block of dS, that attentionBackward needs. */
EXPORT int attentionScratchLength(int context) { return ROWS * context; }

/* dqkv like qkv, fully written */
EXPORT void attentionBackward(float *dqkv, const float *dy, const float *probabilities, const float *qkv, float *ds,
                              int sequences, int context, int heads, int width, float *scratch) {
  int headWidth = width / heads;
  for (int s = 0; s < sequences; s++)
    for (int h = 0; h < heads; h++) {
      int start = s * context * 3 * width + h * headWidth;
      headBackward(dqkv + start, dy + s * context * width + h * headWidth,
                   probabilities + (s * heads + h) * context * context, qkv + start, ds, context, width, headWidth,
                   scratch);
    }
}
