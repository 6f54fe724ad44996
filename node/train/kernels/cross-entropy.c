/*
 * Mean cross entropy of a softmax: loss = mean over tokens of (log sum_j exp(l_j) - l_target), its gradient
 * (softmax(l) - onehot(target)) / tokens. Both in one pass, as the exponentials are the cost.
 *
 * logits, dlogits [tokens, vocabulary]; targets [tokens], each below the vocabulary (the caller has checked it).
 */
#include "simd.h"

EXPORT float crossEntropy(float *dlogits, const float *logits, const int *targets, int tokens, int vocabulary) {
  double total = 0;
  for (int i = 0; i < tokens; i++, logits += vocabulary, dlogits += vocabulary) {
    float largest = maximum(logits, vocabulary);
    double sum = shiftedExponentials(dlogits, logits, largest, vocabulary);
    scaleInPlace(dlogits, (float)(1.0 / (sum * tokens)), vocabulary);
    dlogits[targets[i]] -= 1.0f / (float)tokens;
    total += (double)log1((float)sum) - ((double)logits[targets[i]] - largest);
  }
  return (float)(total / tokens);
}
