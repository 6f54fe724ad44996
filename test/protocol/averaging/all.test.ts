import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AVERAGING_NAMES } from '../../../protocol/averaging/averaging.ts';
import { averagingOf } from '../../../protocol/averaging/index.ts';

function meanOf(
  updates: { values: Float32Array; tokens: number }[],
  roundTokens = Number.MAX_SAFE_INTEGER,
): Float32Array {
  const length = updates[0]!.values.length;
  const mean = averagingOf('all').init(length, roundTokens);
  for (const update of updates) mean.add(update);
  const out = new Float32Array(length).fill(Number.NaN);
  mean.finish(out);
  return out;
}

describe('averaging all', () => {
  it('has every name that genesis may hold', () => {
    expect(AVERAGING_NAMES.map((name) => averagingOf(name).name)).toEqual([...AVERAGING_NAMES]);
  });

  it('counts late work in the sum by its tokens, not once for each round that it is late', () => {
    const [first, second, third, other] = [1, 2, 6, 10].map((value) => ({ values: Float32Array.of(value), tokens: 5 }));
    const late = { values: Float32Array.of(1 + 2 + 6), tokens: 15 };
    expect(meanOf([late, other!], 5)).toEqual(meanOf([first!, second!, third!, other!], 5));
    expect(meanOf([late], 5)).toEqual(Float32Array.of(3));
  });

  it('hardly notices a step or two that came too late beside a whole round', () => {
    const whole = { values: Float32Array.of(8), tokens: 1000 };
    const withOne = { values: Float32Array.of(8.01), tokens: 1001 };
    expect(meanOf([withOne], 1000)[0]).toBeCloseTo(meanOf([whole], 1000)[0]!, 1);
  });

  it('weighs by tokens', () => {
    const mean = meanOf([
      { values: Float32Array.of(1, 0, -4), tokens: 300 },
      { values: Float32Array.of(5, 8, 0), tokens: 100 },
    ]);
    expect(mean).toEqual(Float32Array.of(2, 2, -3));
  });

  it('divides by everyone, not by those who sent the coordinate', () => {
    const mean = meanOf([
      { values: Float32Array.of(4, 0), tokens: 1 },
      { values: Float32Array.of(0, 0), tokens: 1 },
    ]);
    expect(mean).toEqual(Float32Array.of(2, 0));
  });

  it('returns the only update bit for bit, and is the exact mean rounded once for integers', () => {
    const finite = fc.float32Array({ minLength: 3, maxLength: 3, noNaN: true, noDefaultInfinity: true });
    const tokens = fc.integer({ min: 1, max: 2 ** 40 });
    fc.assert(
      fc.property(finite, tokens, (values, weight) => {
        expect(meanOf([{ values, tokens: weight }]).map((mean, i) => mean - values[i]!)).toEqual(new Float32Array(3));
      }),
    );
    const whole = fc.array(fc.tuple(fc.integer({ min: -4096, max: 4096 }), fc.integer({ min: 1, max: 1e6 })), {
      minLength: 1,
      maxLength: 20,
    });
    fc.assert(
      fc.property(whole, (peers) => {
        const sum = peers.reduce((total, [value, weight]) => total + BigInt(value) * BigInt(weight), 0n);
        const weights = peers.reduce((total, [, weight]) => total + BigInt(weight), 0n);
        const mean = meanOf(peers.map(([value, weight]) => ({ values: Float32Array.of(value), tokens: weight })));
        expect(mean[0]).toBe(Math.fround(Number(sum) / Number(weights)));
      }),
    );
  });

  it('refuses weights that are not positive integers, other lengths, and no updates', () => {
    const values = Float32Array.of(1);
    for (const tokens of [0, -1, 1.5, Number.NaN, 2 ** 53]) {
      expect(() => meanOf([{ values, tokens }])).toThrow(/assertion failed/);
    }
    expect(() => averagingOf('all').init(2, 1).add({ values, tokens: 1 })).toThrow(/assertion failed/);
    expect(() => averagingOf('all').init(1, 1).finish(values)).toThrow(/assertion failed/);
  });
});
