import { expect, test } from 'vitest';
import { drawFault, FAULTS } from '../../../node/chaos/faults.ts';
import { Observed } from '../../../node/chaos/observed.ts';
import type { Line, RoundLine } from '../../../node/chaos/peer-process.ts';
import { randomStream } from '../../../protocol/random.ts';

function round(number: number, more: Partial<RoundLine> = {}): RoundLine {
  return {
    event: 'round',
    round: number,
    root: `root ${number}`,
    final: true,
    contributors: ['a', 'b'],
    trainLoss: 1,
    valLoss: null,
    block: 'block',
    tokens: 100,
    bytesSent: 0,
    bytesReceived: 0,
    computeFraction: 1,
    ...more,
  };
}

test('rounds are counted once, and the certified one where there was another before', () => {
  let nowMs = 0;
  const observed = new Observed(() => nowMs++);
  for (const peer of [0, 1]) observed.take(peer, round(1));
  observed.take(0, round(2, { final: false, root: 'left', tokens: 10, contributors: ['a'] }));
  observed.take(1, round(2, { final: false, root: 'right', tokens: 20, contributors: ['b'] }));
  observed.take(0, round(2, { tokens: 90 }));
  expect(observed.tokens).toBe(190);
  expect([observed.lastRound, observed.lastRoundAtMs]).toEqual([2, 2]);
  expect(observed.compareRoots()).toEqual({ rounds: 2, compared: 3, diverged: [] });
  expect([observed.contribution('a', 0), observed.contribution('a', 1), observed.contribution('a', 2)]).toEqual([
    1,
    2,
    undefined,
  ]);
});

test('rounds that one goes through alone are not those of the swarm', () => {
  const observed = new Observed();
  for (const peer of [0, 1, 2, 3]) observed.take(peer, round(1));
  for (const alone of [2, 3, 4]) observed.take(3, round(alone, { final: false }));
  expect(observed.lastRound).toBe(1);
  // two of four may be followed
  observed.take(2, round(2, { final: false }));
  expect(observed.lastRound).toBe(2);
});

test('a round that was ended without a quorum is no sign that a peer is back', () => {
  const observed = new Observed();
  observed.take(0, round(1, { final: false }));
  expect(observed.contribution('a', 0)).toBeUndefined();
  observed.take(1, round(1, { contributors: ['b'] }));
  expect([observed.contribution('a', 0), observed.contribution('b', 0)]).toEqual([undefined, 1]);
});

test('of a peer it is known for which round it has made its update, and of rounds how long they usually are', () => {
  let nowMs = 0;
  const observed = new Observed(() => nowMs);
  const progress = (phase: 'training' | 'gathering', of: number) =>
    observed.take(1, { event: 'progress', phase, round: of, rounds: null, detail: '' } as Line<'progress'>);
  progress('training', 4);
  expect(observed.updateOf(1)).toBe(0);
  progress('gathering', 4);
  progress('training', 5);
  expect([observed.updateOf(1), observed.updateOf(0)]).toEqual([5, 0]);
  expect(observed.usualRoundMs()).toBe(0);
  for (const [of, atMs] of [
    [1, 200],
    [2, 9000],
    [3, 9100],
  ] as const) {
    nowMs = atMs;
    observed.take(0, round(of));
  }
  expect(observed.usualRoundMs()).toBe(200);
});

test('two certified roots of a round are a divergence, in another life of the same peer too', () => {
  const observed = new Observed();
  observed.take(0, round(3));
  observed.take(1, round(3, { root: 'other' }));
  observed.take(2, round(4));
  observed.take(2, round(4, { root: 'changed' }));
  expect(observed.compareRoots().diverged).toEqual([
    { round: 3, roots: { 'root 3': [0], other: [1] } },
    { round: 4, roots: { 'root 4': [2], changed: [2] } },
  ]);
});

test('work is what became of it in the end', () => {
  const observed = new Observed();
  const receipt = (
    peer: number,
    of: number,
    status: 'accepted' | 'late' | 'refused' | 'unknown',
    acceptedIn?: number,
  ) =>
    observed.take(peer, {
      event: 'receipt',
      round: of,
      payload: null,
      status,
      ...(acceptedIn === undefined ? {} : { acceptedIn }),
    });
  receipt(0, 1, 'accepted', 1);
  receipt(1, 1, 'late');
  receipt(1, 1, 'accepted', 2);
  receipt(1, 2, 'accepted', 2);
  receipt(0, 2, 'late');
  receipt(0, 3, 'refused');
  receipt(1, 3, 'late');
  receipt(1, 3, 'unknown');
  expect(observed.work()).toEqual({
    contributions: 6,
    accepted: 2,
    carried: 1,
    open: 1,
    refused: 1,
    lost: 1,
    stepsLost: 0,
  });
});

test('what a kill costs are the steps that its peer does not go on from', () => {
  const observed = new Observed();
  const progress = (phase: 'training' | 'gathering', of: number, step?: number) =>
    observed.take(0, {
      event: 'progress',
      phase,
      round: of,
      rounds: null,
      peers: 1,
      ...(step ? { step, steps: 20 } : {}),
    });
  const lost = () => observed.work().stepsLost;
  progress('training', 1, 12);
  observed.killed(0);
  expect(lost()).toBe(12); // nothing more is known yet
  progress('training', 1, 10); // from the nine that the disk had
  expect(lost()).toBe(3);
  progress('gathering', 1);
  observed.killed(0); // its update was made
  progress('training', 2, 1);
  expect(lost()).toBe(3);
  progress('training', 2, 7);
  observed.killed(0);
  progress('training', 4, 1); // the round is over
  expect(lost()).toBe(10);
});

test('faults follow from the seed, hit free peers alone and end before half the time to the next', () => {
  const drawn = (seed: number) => {
    const random = randomStream(seed, 'chaos');
    return Array.from({ length: 200 }, () => drawFault(random, FAULTS, [1, 3], 10_000));
  };
  expect(drawn(1)).toEqual(drawn(1));
  expect(drawn(1)).not.toEqual(drawn(2));
  expect(new Set(drawn(1).map(({ kind }) => kind))).toEqual(new Set(FAULTS));
  expect(new Set(drawn(1).map(({ peer }) => peer))).toEqual(new Set([1, 3]));
  for (const { forMs } of drawn(1)) expect(forMs >= 500 && forMs <= 5000).toBe(true);
});
