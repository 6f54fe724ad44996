import type { Genesis } from '../../protocol/genesis.ts';
import { modelLayout } from '../../protocol/model.ts';
import type { RunRecord } from '../../sim/comparison.ts';
import { formatCount, formatDuration } from './format.ts';

/** What the screens of `sim` and `compare` say with the same words. */

/** How often a status line is drawn, and at most how often. */
export const STATUS_INTERVAL_MS = 200;

/** Shape, batch and learning rate. */
export function modelWords({ model, batch, inner }: Pick<Genesis, 'model' | 'batch' | 'inner'>): string {
  const { layers, heads, width, context } = model;
  const shape = `${layers} layers, ${heads} heads, width ${width}, context ${context}`;
  const { learningRate, learningRateMin, warmupSteps, decaySteps } = inner;
  const rate = `learning rate ${learningRate} to ${learningRateMin}, warmup ${warmupSteps} of ${decaySteps} steps`;
  return `${formatCount(modelLayout(model).length)} parameters (${shape}); batch ${batch}; ${rate}`;
}

/**
 * How long the rest will take if it goes on as it went so far.
 * @param work of any unit; what had been done before the time began is in neither
 */
export function leftWords({ done, all }: { done: number; all: number }, spentMs: number): string {
  return `${done > 0 ? formatDuration((spentMs / done) * Math.max(0, all - done)) : '…'} left`;
}

/** Of runs that were asked for: one that never came to its end failed, and so did one that shows a bug of ours. */
export function exitCodeOf(runs: readonly Pick<RunRecord, 'reason' | 'diverged'>[]): number {
  return runs.some(({ reason, diverged }) => reason === 'stuck' || diverged.length > 0) ? 1 : 0;
}
