import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Patience } from '../../protocol/patience.ts';

const plannedMs = 1000;
const init = { margin: 3, stretchMax: 32 };
const came = (tookMs: number) => ({ plannedMs, tookMs, begun: true });
const missed = { plannedMs, tookMs: undefined, begun: true };

describe('patience', () => {
  test('is what genesis plans as long as the links carry it', () => {
    const patience = new Patience(init);
    expect(patience.waitMs(plannedMs)).toBe(plannedMs);
    for (let round = 0; round < 9; round++) patience.learn(came(300));
    expect(patience.waitMs(plannedMs)).toBe(plannedMs);
  });

  test('doubles while not even a quorum gets through, and then stays at what that needed', () => {
    const patience = new Patience(init);
    const waits = [1, 2, 3].map(() => {
      patience.learn(missed);
      return patience.waitMs(plannedMs);
    });
    expect(waits).toEqual([2000, 4000, 8000]);
    for (let round = 0; round < 20; round++) patience.learn(came(5000));
    expect(patience.waitMs(plannedMs)).toBe(15_000);
    for (let round = 0; round < 20; round++) patience.learn(came(100));
    expect(patience.waitMs(plannedMs)).toBe(plannedMs);
  });

  test('is not stretched by those who announce nothing, nor without end by those who hold back', () => {
    const patience = new Patience(init);
    patience.learn(undefined);
    patience.learn({ ...missed, begun: false });
    expect(patience.waitMs(plannedMs)).toBe(plannedMs);
    for (let round = 0; round < 50; round++) patience.learn(missed);
    expect(patience.waitMs(plannedMs)).toBe(32 * plannedMs);
  });

  test('is never less than planned, nor more than the longest that was needed allows', () => {
    const round = fc.oneof(fc.integer({ min: 0, max: 10_000 }).map(came), fc.constant({ ...missed, begun: false }));
    fc.assert(
      fc.property(fc.array(round, { maxLength: 30 }), (rounds) => {
        const patience = new Patience(init);
        for (const each of rounds) patience.learn(each);
        const longest = Math.max(0, ...rounds.map(({ tookMs }) => tookMs ?? 0));
        const waitMs = patience.waitMs(plannedMs);
        expect(waitMs).toBeGreaterThanOrEqual(plannedMs);
        expect(waitMs).toBeLessThanOrEqual(Math.max(plannedMs, 3 * longest));
      }),
    );
  });
});
