import type { Genesis } from '../../protocol/genesis.ts';

/** Validation takes about this share of the time spent in training; the last round measures on everything. */
const EVALUATION_SHARE = 0.005;
export const EVALUATION_SEQUENCES = 64;

/**
 * Rounds from one validation to the next. All peers choose alike, since one that evaluates lets the others wait. A sequence
 * forward costs about a third of one in training.
 */
export function evaluationEvery({ innerSteps, batch }: Genesis): number {
  return Math.max(1, Math.ceil(EVALUATION_SEQUENCES / (3 * EVALUATION_SHARE * innerSteps * batch)));
}
