import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { randomStream } from '../../protocol/random.ts';

/** Every peer of every version must get this; a change of it is a change of protocol. */
const GOLDEN = [4274989983, 301233389, 3251130336, 28428428];

/** xoshiro128** 1.1 in exact arithmetic, after the C code at prng.di.unimi.it. */
function reference(name: string, count: number): number[] {
  const seed = createHash('sha256').update(name).digest();
  const mask = 0xffffffffn;
  const rotate = (x: bigint, k: bigint) => ((x << k) | (x >> (32n - k))) & mask;
  const s = [0, 4, 8, 12].map((at) => BigInt(seed.readUInt32LE(at)));
  return Array.from({ length: count }, () => {
    const result = (rotate((s[1]! * 5n) & mask, 7n) * 9n) & mask;
    const t = (s[1]! << 9n) & mask;
    s[2]! ^= s[0]!;
    s[3]! ^= s[1]!;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= t;
    s[3] = rotate(s[3]!, 11n);
    return Number(result);
  });
}

const take = (count: number, draw: () => number) => Array.from({ length: count }, draw);

describe('randomStream', () => {
  it('is xoshiro128** seeded with the hash of its name', () => {
    expect(take(100, randomStream(42, 'data', 7).uint32)).toEqual(reference('42/data/7', 100));
    expect(take(100, randomStream('a run').uint32)).toEqual(reference('a run', 100));
  });

  it('never changes', () => {
    expect(take(4, randomStream(0, 'init').uint32)).toEqual(GOLDEN);
  });

  it('is another one for every name', () => {
    const names: (string | number)[][] = [['init'], ['init', 0], ['data'], ['data', 1], ['data', 2]];
    const firsts = [1, 2].flatMap((seed) => names.map((labels) => randomStream(seed, ...labels).uint32()));
    expect(new Set(firsts).size).toBe(10);
  });

  it('draws units in [0, 1) with the moments of a uniform', () => {
    const units = take(100_000, randomStream(1, 'unit').unit);
    expect(units.every((unit) => unit >= 0 && unit < 1)).toBe(true);
    const mean = units.reduce((sum, unit) => sum + unit, 0) / units.length;
    const variance = units.reduce((sum, unit) => sum + (unit - mean) ** 2, 0) / units.length;
    expect(mean).toBeCloseTo(1 / 2, 2);
    expect(variance).toBeCloseTo(1 / 12, 2);
  });

  it('draws below any bound', () => {
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: 1, max: 2 ** 32 }), (seed, bound) => {
        const { below } = randomStream(seed, 'below');
        for (let i = 0; i < 20; i++) {
          const draw = below(bound);
          expect(Number.isInteger(draw) && draw >= 0 && draw < bound).toBe(true);
        }
      }),
    );
  });

  it('draws below a bound without favour', () => {
    const { below } = randomStream(3, 'below');
    // without rejection, the lower half of three quarters of 2^32 would come up twice as often as the rest
    const bound = 3 * 2 ** 30;
    const low = take(30_000, () => below(bound)).filter((draw) => draw < bound / 3).length;
    expect(Math.abs(low / 30_000 - 1 / 3)).toBeLessThan(0.02);
    const counts = new Array<number>(6).fill(0);
    for (let i = 0; i < 60_000; i++) counts[below(6)]! += 1;
    const chiSquared = counts.reduce((sum, count) => sum + (count - 10_000) ** 2 / 10_000, 0);
    // 5 degrees of freedom: a fair die exceeds 20.5 once in a thousand seeds, and this seed is fixed
    expect(chiSquared).toBeLessThan(20.5);
  });
});
