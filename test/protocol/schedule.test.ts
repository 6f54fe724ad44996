import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { innerLearningRate } from '../../protocol/schedule.ts';

/** nanoGPT's settings for Shakespeare on a CPU. */
const inner = {
  learningRate: 1e-3,
  learningRateMin: 1e-4,
  warmupSteps: 100,
  decaySteps: 2000,
  beta1: 0.9,
  beta2: 0.99,
  epsilon: 1e-8,
  weightDecay: 0.1,
  clipNorm: 1,
};

describe('innerLearningRate', () => {
  it.each([
    // values of get_lr(it) in nanoGPT's train.py
    [0, 1e-3 / 101],
    [99, (1e-3 * 100) / 101],
    [100, 1e-3],
    [1050, 5.5e-4],
    [2000, 1e-4],
    [1_000_000, 1e-4],
  ])("at step %i is nanoGPT's", (step, rate) => {
    expect(innerLearningRate(inner, step)).toBeCloseTo(rate, 12);
  });

  it('rises to the maximum, then falls to the minimum, and stays between', () => {
    const config = fc.record({ warmupSteps: fc.nat(50), decaySteps: fc.integer({ min: 1, max: 200 }) });
    fc.assert(
      fc.property(config, (steps) => {
        const rates = Array.from({ length: 260 }, (_, step) => innerLearningRate({ ...inner, ...steps }, step));
        const warm = Math.min(steps.warmupSteps, 259);
        for (let i = 1; i < warm; i++) expect(rates[i]!).toBeGreaterThan(rates[i - 1]!);
        for (let i = warm + 1; i < 260; i++) expect(rates[i]!).toBeLessThanOrEqual(rates[i - 1]!);
        expect(Math.min(...rates)).toBeGreaterThan(0);
        expect(Math.max(...rates)).toBeLessThanOrEqual(inner.learningRate);
        expect(rates.at(-1)).toBe(inner.learningRateMin);
      }),
    );
  });
});
