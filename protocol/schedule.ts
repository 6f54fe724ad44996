import type { Genesis } from './genesis.ts';

/**
 * The inner learning rate at a step counted over the whole run: linear warmup, then half a cosine down to the minimum
 * (nanoGPT `get_lr`; Loshchilov and Hutter 2017, eq. 5 without restarts).
 * @param step 0-based: round x innerSteps + step within the round
 */
export function innerLearningRate(inner: Genesis['inner'], step: number): number {
  const { learningRate, learningRateMin, warmupSteps, decaySteps } = inner;
  if (step < warmupSteps) return (learningRate * (step + 1)) / (warmupSteps + 1);
  if (step >= decaySteps) return learningRateMin;
  const progress = (step - warmupSteps) / Math.max(1, decaySteps - warmupSteps);
  return learningRateMin + 0.5 * (1 + Math.cos(Math.PI * progress)) * (learningRate - learningRateMin);
}
