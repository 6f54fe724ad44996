import { describe, expect, it } from 'vitest';
import { defaultTarget, meanCurve, type RunRecord, statisticOf, summarize, timeTo } from '../../sim/comparison.ts';

function run(series: string, seed: number, losses: number[], fields: Partial<RunRecord> = {}): RunRecord {
  const points = losses.map((loss, i) => ({ tokens: 100 * (i + 1), virtualMs: 1000 * (i + 1), bytes: 10 * i, loss }));
  const loss = losses.at(-1) ?? null;
  const { tokens = 0, virtualMs = 0, bytes = 0 } = points.at(-1) ?? {};
  const counts = { tokens, rounds: 5, virtualMs, bytes, bytesByKind: { gossip: 200 }, computeFraction: 0.5 };
  return {
    series,
    seed,
    reason: 'rounds',
    points,
    loss,
    ...counts,
    traceHash: null,
    warnings: {},
    diverged: [],
    ...fields,
  };
}

describe('statisticOf', () => {
  it('has the sample standard deviation', () => {
    expect(statisticOf([1, 2, 3])).toEqual({ mean: 2, spread: 1, n: 3 });
    expect(statisticOf([5])).toEqual({ mean: 5, spread: null, n: 1 });
    expect(statisticOf([])).toBeNull();
  });
});

describe('timeTo', () => {
  it('lies between two points in proportion', () => {
    const { points } = run('a', 1, [4, 3, 1]);
    expect(timeTo(2, points)).toBe(2500);
    expect(timeTo(4, points)).toBe(1000);
    expect(timeTo(0.5, points)).toBeNull();
    expect(timeTo(1, [])).toBeNull();
  });
});

describe('summarize', () => {
  const runs = [run('centralized', 1, [4, 2]), run('centralized', 2, [4, 4]), run('a', 1, [4, 3]), run('a', 2, [4, 4])];

  it('takes gaps seed by seed', () => {
    const [central, own] = summarize(runs, 3);
    expect(central).toMatchObject({ series: 'centralized', gapPercent: null, loss: { mean: 3, n: 2 } });
    expect(own?.gapPercent).toMatchObject({ mean: 25, n: 2 });
    expect(own?.bytesAToken).toBe(1);
    expect(own?.target).toEqual({ reached: 1, of: 2, virtualMs: 2000 });
  });

  it('leaves out what was stopped, where something else is there', () => {
    const [only] = summarize([run('a', 1, [2]), run('a', 2, [9], { loss: null, reason: 'stopped' })], null);
    expect(only).toMatchObject({ loss: { mean: 2, n: 1 }, gapPercent: null, target: { reached: 0, of: 1 } });
  });

  it('has no bytes a token where no token was trained on', () => {
    const none = run('a', 1, [], { loss: null, reason: 'stopped', tokens: 0 });
    const some = run('a', 2, [9], { loss: null, reason: 'stopped' });
    expect(summarize([none], null)[0]?.bytesAToken).toBeNull();
    expect(summarize([none, some], null)[0]?.bytesAToken).toBe(2);
  });

  it('aims 5 % above the centralized baseline', () => {
    expect(defaultTarget(runs)).toBeCloseTo(3.15, 12);
    expect(defaultTarget([])).toBeNull();
  });
});

describe('meanCurve', () => {
  it('goes as far as all runs', () => {
    const curve = meanCurve([run('a', 1, [4, 2]), run('a', 2, [2, 2, 1])]);
    expect(curve).toHaveLength(2);
    expect(curve[0]).toMatchObject({ loss: 3, low: 2, high: 4, tokens: 100 });
    expect(meanCurve([])).toEqual([]);
  });

  it('leaves out a run that came to no loss, but where none did', () => {
    const stuck = run('a', 3, [9], { reason: 'stuck', loss: null });
    const curve = meanCurve([run('a', 1, [4, 2]), stuck, run('a', 2, [2, 2])]);
    expect(curve.map(({ loss }) => loss)).toEqual([3, 2]);
    expect(meanCurve([stuck]).map(({ loss }) => loss)).toEqual([9]);
  });
});
