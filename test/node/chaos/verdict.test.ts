import { expect, test } from 'vitest';
import type { FaultReport } from '../../../node/chaos/faults.ts';
import { failuresOf, lostOf, shareOf, tooFew } from '../../../node/chaos/verdict.ts';

test('what was trained is compared at the speed that the machine had', () => {
  expect(shareOf({ rate: 90, baselineRate: 100, machineSpeed: 0.9 })).toBeCloseTo(1, 12);
  expect(shareOf({ rate: 90, baselineRate: 100, machineSpeed: 1.125 })).toBeCloseTo(0.8, 12);
  expect(shareOf({ rate: 90, baselineRate: 100, machineSpeed: null })).toBe(0.9);
  expect(shareOf({ rate: 90, baselineRate: null, machineSpeed: null })).toBeNull();
});

test('too few tokens fail it, where they are compared and something is asked', () => {
  expect(tooFew(0.969, 0.977)).toEqual(['96.9 % of the tokens without faults were trained, 97.7 % are asked']);
  expect(tooFew(0.977, 0.977)).toEqual([]);
  expect(tooFew(0.1, 0)).toEqual([]);
  expect(tooFew(null, 0)).toEqual([]);
  expect(tooFew(null, 0.977)).toEqual([
    'nothing to compare with: without faults no round ended in that time, give more --minutes',
  ]);
  expect(shareOf({ rate: 90, baselineRate: 0, machineSpeed: 1 })).toBeNull();
});

function report(more: Partial<FaultReport>): FaultReport {
  const times = { atMs: 0, forMs: 500, readyMs: 900, recoveredMs: 30_000, rounds: 1, roundsFromStart: 1 };
  return { kind: 'kill', peer: 3, id: 'id', ...times, ...more };
}

test('a killed peer that is late fails it, unless rounds are shorter than hearing of them takes', () => {
  expect(failuresOf([report({}), report({ rounds: 2 })], [], [])).toEqual([]);
  expect(failuresOf([report({ rounds: 3 })], [], [])).toEqual([
    'killed peer 3 contributed 3 rounds after it was ready, 2 are allowed',
  ]);
  expect(failuresOf([report({ rounds: 9, recoveredMs: 1900 })], [], [])).toEqual([]);
  expect(failuresOf([report({ kind: 'stop', rounds: 3 })], [], [])).toEqual([]);
});

test('so does work that was lost', () => {
  expect(lostOf({ lost: 0 })).toEqual([]);
  expect(lostOf({ lost: 2 })).toEqual([expect.stringContaining('2 contributions was given up')]);
});

test('so do a peer that does not come back, one that ends by itself, and roots that differ', () => {
  const gone = report({ kind: 'cut', rounds: null, recoveredMs: null });
  const broken = report({ error: 'peer 3 was asked to leave and did not' });
  const diverged = [{ round: 7, roots: { a: [0], b: [1] } }];
  expect(failuresOf([gone, broken], diverged, ['peer 1 ended by itself: oh'])).toEqual([
    'round 7 has more than one root',
    'peer 1 ended by itself: oh',
    'peer 3 did not contribute again after cut',
    'peer 3 was asked to leave and did not',
  ]);
});
