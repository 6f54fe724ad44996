import { expect, test } from 'vitest';
import { drawPlan, type Fault, type Plan } from '../../../sim/swarm/plan.ts';
import { shrink } from '../../../sim/swarm/shrink.ts';
import { type Outcome, type Seen, Swarm } from '../../../sim/swarm/swarm.ts';
import { calm, cut } from './calm.ts';

const SMALL = { peersMax: 7, safetyMsMax: 20_000 };
const SEEDS = 30;

async function holds(plan: Plan): Promise<Outcome> {
  const outcome = await new Swarm(plan).run();
  const { seed, failure, diary } = outcome;
  // what to look at, for who reads the test's output
  expect([seed, failure, failure ? diary.slice(-20) : []]).toEqual([seed, undefined, []]);
  return outcome;
}

test(`${SEEDS} small swarms keep every invariant under faults and lies, and go on when healed`, async () => {
  const sums: Partial<Record<keyof Seen, number>> = {};
  for (let seed = 0; seed < SEEDS; seed++) {
    const { seen } = await holds(drawPlan(seed, SMALL));
    for (const [name, count] of Object.entries(seen)) {
      if (typeof count === 'number') sums[name as keyof Seen] = (sums[name as keyof Seen] ?? 0) + count;
    }
  }
  // a swarm that goes through nothing finds nothing
  const names = ['finalRounds', 'unfinalRounds', 'laterViews', 'crashes', 'blackouts', 'batches', 'lies'] as const;
  for (const name of [...names, 'refusedMessages'] as const) {
    expect([name, sums[name]! > 0]).toEqual([name, true]);
  }
}, 240_000);

test('the same seed plays the same swarm', async () => {
  const [first, again, other] = [drawPlan(3, SMALL), drawPlan(3, SMALL), drawPlan(4, SMALL)];
  expect(again).toEqual(first);
  const hashes = [];
  for (const plan of [first, again, other]) hashes.push((await new Swarm(plan).run()).traceHash);
  expect(hashes[1]).toBe(hashes[0]);
  expect(hashes[2]).not.toBe(hashes[0]);
}, 60_000);

test('a voter that votes for and against everything is evicted, and nobody else', async () => {
  const lie: Fault = { kind: 'lie', atMs: 0, peer: 4, habit: 'votes for all' };
  // a violation of `validity` if a correct peer is put out
  const { seen } = await holds(calm([lie], { seed: 6, peers: 5, liars: 1 }));
  expect(seen.evictions).toBeGreaterThan(0);
}, 60_000);

test('peers that each went on alone, and whom nobody would follow, come together again', async () => {
  const apart = [
    [[0], [1, 2, 3]],
    [[1], [2, 3]],
    [[2], [3]],
  ].map((groups) => cut(groups, 4000, 20_000));
  const { seen } = await holds(calm(apart));
  expect(seen.unfinalRounds).toBeGreaterThan(20);
});

test.each([
  { what: 'all others', peers: 4, hub: 2, gone: [1, 2, 3], atMs: 4070 },
  { what: 'all but the one by way of which it heard them', peers: 7, hub: 1, gone: [2, 3, 4, 5, 6], atMs: 4600 },
])('$what are gone: who was never connected to most of them goes on without', async ({ peers, hub, gone, atMs }) => {
  const far = Array.from({ length: peers }, (_, peer) => peer).filter((peer) => peer !== hub);
  const apart = far.flatMap((a) => far.filter((b) => b > a).map((b): [number, number] => [a, b]));
  const blackout: Fault = { kind: 'blackout', atMs, forMs: 1e6, peers: gone, lastWrite: 'kept' };
  const { seen } = await holds(calm([blackout], { peers, apart, leftDown: gone, safetyMs: 6000 }));
  expect(seen.unfinalRounds).toBeGreaterThan(3);
});

test('peers that hear each other by way of one alone come together again when that one comes back', async () => {
  const apart: [number, number][] = [
    [0, 2],
    [0, 3],
    [2, 3],
  ];
  const gone: Fault = { kind: 'blackout', atMs: 5000, forMs: 1e6, peers: [3], lastWrite: 'kept' };
  const faults = [gone, cut([[1], [0, 2, 3]], 6000, 20_000)];
  // views that are longer than unfinal rounds, the next one led by who is gone
  const genesis = { ...calm([]).genesis, timing: { graceMs: 500, viewMs: 1800, quorumWaitMs: 10_000 } };
  const { seen } = await holds(calm(faults, { seed: 17, genesis, latencyMs: 150, apart, leftDown: [3] }));
  expect(seen.unfinalRounds).toBeGreaterThan(0);
});

test('who comes back when the others are through takes the end that they decided on, and makes none of its own', async () => {
  const away: Fault = { kind: 'crash', peer: 3, atMs: 2600, forMs: 15_000, lastWrite: 'kept' };
  const { seen } = await holds(calm([away], { genesis: { ...calm([]).genesis, rounds: 6 }, safetyMs: 20_000 }));
  expect([seen.finalRounds, seen.unfinalRounds]).toEqual([24, 0]);
});

test('a payload put into the header of another peer keeps nobody from getting the right one', async () => {
  const lies: Fault[] = [{ kind: 'lie', peer: 3, atMs: 0, habit: 'poisons' }];
  const { seen } = await holds(calm(lies, { liars: 1, genesis: { ...calm([]).genesis, waitFor: 3 } }));
  expect(seen.lies).toBeGreaterThan(0);
  expect(seen.warnings.E_PAYLOAD_FORMAT).toBeUndefined();
});

test('what fails is shrunk to the faults that it takes', async () => {
  const faults: Fault[] = Array.from({ length: 9 }, (_, i) => ({ kind: 'jump', peer: 0, atMs: i, byMs: 1 }));
  const plan = calm(faults);
  const play = async (each: Plan): Promise<Outcome> => {
    const times = each.faults.map(({ atMs }) => atMs);
    const failure = times.includes(2) && times.includes(7) ? { checker: 'agreement', message: 'two' } : undefined;
    return { seed: 0, failure, diary: [], virtualMs: 0, events: 0, traceHash: '', seen: {} as Seen };
  };
  const { plan: small } = await shrink(plan, await play(plan), play);
  expect(small.faults.map(({ atMs }) => atMs)).toEqual([2, 7]);
});
