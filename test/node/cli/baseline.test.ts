import { expect, it } from 'vitest';
import { type Baseline, trainBaseline } from '../../../node/cli/baseline.ts';
import { NO_PROGRESS, type Trainer } from '../../../node/train/index.ts';

it('counts skipped steps in a row on over evaluations', async () => {
  const before: number[] = [];
  const trainer = {
    trainRound: async (plan: { steps: number }, { from, afterStep }: Parameters<Trainer['trainRound']>[1] & object) => {
      before.push(from?.skipsInARow ?? -1);
      await afterStep?.({ ...NO_PROGRESS, skipsInARow: (from?.skipsInARow ?? 0) + plan.steps });
      return { steps: plan.steps, tokens: 0, meanLoss: 1, skipped: plan.steps, computeMs: 1, badParameters: false };
    },
    evaluate: async () => 1,
  };
  const baseline = { genesis: { batch: 2 }, trainer, steps: 6 } as unknown as Baseline;
  const evaluations = trainBaseline(baseline, {
    evalEvery: 2,
    signal: new AbortController().signal,
    onStep: () => undefined,
    onEvaluate: () => undefined,
  });
  for await (const { skipped } of evaluations) expect(skipped).toBe(2);
  expect(before).toEqual([0, 2, 4]);
});
