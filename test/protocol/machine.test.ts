import { expect, onTestFinished, test } from 'vitest';
import { rootOf } from '../../protocol/chain.ts';
import type { Effect, Event } from '../../protocol/events.ts';
import { hashOf } from '../../protocol/hash.ts';
import { branchFromLog, GENESIS } from '../../protocol/history.ts';
import type { PeerId, Signer } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { Machine } from '../../protocol/machine.ts';
import type { Message, PageRequest } from '../../protocol/messages.ts';
import { blockHash, statusBytes } from '../../protocol/signing.ts';
import type { AgreedState } from '../../protocol/wire.ts';
import { Cluster, type TestPeer } from '../helpers/cluster.ts';
import { soloEntry, WHOLE } from '../helpers/history.ts';
import { testSigner } from '../helpers/signers.ts';

function started(cluster: Cluster): Cluster {
  for (const peer of cluster.peers) peer.start();
  return cluster;
}

function expectNoDivergence(cluster: Cluster): void {
  for (const [round, roots] of cluster.finalRoots()) expect([round, roots.size]).toEqual([round, 1]);
}

test('one peer alone certifies its own rounds', () => {
  const cluster = started(new Cluster(1, 1));
  expect(cluster.runUntil(() => cluster.peers[0]!.lastRound >= 5, 20_000)).toBe(true);
  expect(cluster.peers[0]!.rounds.every((round) => round.final)).toBe(true);
});

test('three peers wait for each other, then agree on every root', () => {
  const cluster = started(new Cluster(2, 3, { waitFor: 3, rounds: 5 }));
  const done = () => cluster.peers.every((peer) => peer.reports.some((report) => report.kind === 'done'));
  expect(cluster.runUntil(done, 60_000)).toBe(true);
  expectNoDivergence(cluster);
  for (const peer of cluster.peers) {
    expect(peer.rounds.map((round) => round.round)).toEqual([1, 2, 3, 4, 5]);
    expect(peer.rounds.every((round) => round.contributors.length === 3)).toBe(true);
  }
});

test('a fourth joins while rounds go on and contributes with the same roots', () => {
  const cluster = new Cluster(3, 4, { waitFor: 3 });
  for (const peer of cluster.peers.slice(0, 3)) peer.start();
  expect(cluster.runUntil(() => cluster.peers[0]!.lastRound >= 3, 60_000)).toBe(true);
  const late = cluster.peers[3]!;
  late.start();
  const contributes = () => cluster.peers[0]!.rounds.at(-1)!.contributors.includes(late.id);
  expect(cluster.runUntil(contributes, 60_000)).toBe(true);
  expect(cluster.runUntil(() => late.rounds.length >= 3, 60_000)).toBe(true);
  expectNoDivergence(cluster);
});

test('a joiner that knows a block follows the history that has it, and no other', () => {
  const cluster = new Cluster(3, 5, { waitFor: 3 });
  for (const peer of cluster.peers.slice(0, 3)) peer.start();
  const [founder, , , sure, misled] = cluster.peers;
  expect(cluster.runUntil(() => founder!.lastRound >= 3, 60_000)).toBe(true);
  sure!.start(founder!.rounds[1]!.block);
  misled!.start(hashOf(new Uint8Array([1])));
  expect(cluster.runUntil(() => founder!.rounds.at(-1)!.contributors.includes(sure!.id), 60_000)).toBe(true);
  expect(cluster.runUntil(() => sure!.rounds.length >= 3, 60_000)).toBe(true);
  const warnings = misled!.reports.filter((report) => report.kind === 'warning');
  expect(misled!.reports.map(({ kind }) => kind)).toEqual(warnings.map(() => 'warning'));
  expect(new Set(warnings.map(({ code }) => code))).toEqual(new Set(['W_UNTRUSTED']));
  expect(warnings.length).toBeLessThanOrEqual(4); // once for each who tells
  expect(misled!.machine!.history(WHOLE).entries).toEqual([]);
  expectNoDivergence(cluster);
});

test('a peer that knows a block and has it on disk goes on as ever', () => {
  const cluster = new Cluster(4, 3, { waitFor: 3 });
  for (const peer of cluster.peers) peer.start();
  const [founder, , other] = cluster.peers;
  expect(cluster.runUntil(() => cluster.peers.every((peer) => peer.lastRound >= 3), 60_000)).toBe(true);
  other!.kill();
  other!.start(founder!.rounds[0]!.block);
  const { lastRound } = founder!;
  expect(cluster.runUntil(() => other!.lastRound >= lastRound + 2, 60_000)).toBe(true);
  expectNoDivergence(cluster);
});

test('a round tells a peer which update of its own is in it, or is not', () => {
  const cluster = started(new Cluster(21, 4, { waitFor: 4 }));
  const [fast, , , slow] = cluster.peers;
  const payloads = new Map<number, string>();
  const give = slow!.give.bind(slow);
  slow!.give = (event) => {
    const { round } = slow!.machine!.standing;
    if (event.type === 'trained') payloads.set(round + 1, event.update.payload);
    // around the end of the others' patience: done in time, about when the round ends, or not before
    if (event.type === 'applied' && round >= 2) slow!.trainMs = 3000 + 50 * (round % 8);
    give(event);
  };
  expect(cluster.runUntil(() => fast!.lastRound >= 30, 600_000)).toBe(true);
  const seen = new Set<string>();
  for (const { round, own, ownPayload, contributors } of slow!.rounds) {
    expect(own === 'included').toBe(contributors.includes(slow!.id));
    if (ownPayload !== null) expect(ownPayload).toBe(payloads.get(round));
    seen.add(ownPayload === null ? own : `${own} with payload`);
  }
  expect([...seen].sort()).toEqual(['included with payload', 'late', 'late with payload']);
});

test.each([0, 1, 2, 3])('kill -9 of peer %i of four: the others commit the next round, it comes back', (victim) => {
  const cluster = started(new Cluster(4 + victim, 4, { waitFor: 4 }));
  expect(cluster.runUntil(() => cluster.peers.every((peer) => peer.lastRound >= 3), 60_000)).toBe(true);
  const killed = cluster.peers[victim]!;
  killed.kill();
  const others = cluster.peers.filter((peer) => peer !== killed);
  const before = Math.max(...others.map((peer) => peer.lastRound));
  expect(cluster.runUntil(() => others.every((peer) => peer.lastRound > before + 1), 60_000)).toBe(true);
  killed.start();
  const atRestart = Math.max(...others.map((peer) => peer.lastRound));
  const back = () => others[0]!.rounds.some((r) => r.round > atRestart && r.contributors.includes(killed.id));
  expect(cluster.runUntil(back, 60_000)).toBe(true);
  const first = others[0]!.rounds.find((r) => r.round > atRestart && r.contributors.includes(killed.id))!;
  expect(first.round - atRestart).toBeLessThanOrEqual(2);
  expect(others[0]!.rounds.every((round) => round.final)).toBe(true);
  expectNoDivergence(cluster);
});

test.each([2, 3])('one of %i gone: the rest go on unfinal, and all is final when it is back', (count) => {
  const cluster = started(new Cluster(20 + count, count, { waitFor: count }));
  expect(cluster.runUntil(() => cluster.peers.every((peer) => peer.lastRound >= 2), 60_000)).toBe(true);
  const killed = cluster.peers[count - 1]!;
  killed.kill();
  const rest = cluster.peers.slice(0, count - 1);
  const unfinal = () => rest.every((peer) => peer.rounds.filter((round) => !round.final).length >= 3);
  expect(cluster.runUntil(unfinal, 90_000)).toBe(true);
  const codes = rest[0]!.reports.map((report) => (report.kind === 'warning' ? report.code : ''));
  expect(codes).toContain('W_UNFINAL');
  killed.start();
  const back = () => rest.every((peer) => peer.rounds.at(-1)!.final) && killed.rounds.at(-1)!.final;
  const together = () => back() && rest[0]!.rounds.at(-1)!.contributors.includes(killed.id);
  expect(cluster.runUntil(together, 60_000)).toBe(true);
  expectNoDivergence(cluster);
});

test('where as many unfinal rounds were made as others can follow, the rest train on and wait', () => {
  const { unfinalRoundsMax } = LIMITS;
  onTestFinished(() => void Object.assign(LIMITS, { unfinalRoundsMax }));
  Object.assign(LIMITS, { unfinalRoundsMax: 3 });
  const cluster = started(new Cluster(24, 2, { waitFor: 2 }));
  const [stays, goes] = cluster.peers as [TestPeer, TestPeer];
  expect(cluster.runUntil(() => cluster.peers.every((peer) => peer.lastRound >= 2), 60_000)).toBe(true);
  goes.kill();
  cluster.runUntil(() => false, 120_000);
  expect(stays.rounds.filter(({ final }) => !final)).toHaveLength(3);
  expect(stays.trainedOn).toHaveLength(LIMITS.lateRoundsMax);
  const codes = () => stays.reports.flatMap((report) => (report.kind === 'warning' ? [report.code] : []));
  expect(codes()).toEqual(['W_UNFINAL', 'W_NO_QUORUM']);
  goes.start();
  const isBack = () => cluster.peers.every(({ rounds }) => rounds.at(-1)!.final && rounds.at(-1)!.own === 'included');
  expect(cluster.runUntil(isBack, 60_000)).toBe(true);
  expect(codes().slice(2)).toEqual(['W_FINAL_AGAIN']);
  expectNoDivergence(cluster);
});

test('two halves of a partition each go on; on healing one history wins and all agree', () => {
  const cluster = started(new Cluster(31, 4, { waitFor: 4 }));
  expect(cluster.runUntil(() => cluster.peers.every((peer) => peer.lastRound >= 2), 60_000)).toBe(true);
  cluster.partition([
    [0, 1],
    [2, 3],
  ]);
  const unfinal = () => cluster.peers.every((peer) => peer.rounds.filter((round) => !round.final).length >= 3);
  expect(cluster.runUntil(unfinal, 120_000)).toBe(true);
  cluster.partition(undefined);
  const healed = () =>
    cluster.peers.every((peer) => peer.rounds.at(-1)!.final && peer.rounds.at(-1)!.contributors.length === 4);
  expect(cluster.runUntil(healed, 120_000)).toBe(true);
  expectNoDivergence(cluster);
  const told = cluster.peers.map(({ reports }) => {
    return reports.flatMap((report) => (report.kind === 'warning' ? `${report.code}: ${report.message}` : []));
  });
  const overruled = told.filter((lines) => lines.some((line) => line.startsWith('W_OVERRULED: rounds 3 to ')));
  expect(overruled).toHaveLength(2);
  for (const lines of told) expect(lines.at(-1)).toMatch(/^W_FINAL_AGAIN: .* the unfinal ones before it are final/);
});

test('a quorum that comes back overrules who went on alone: it is told that, and not that its rounds are final', () => {
  const cluster = started(new Cluster(32, 4, { waitFor: 4 }));
  expect(cluster.runUntil(() => cluster.peers.every((peer) => peer.lastRound >= 2), 60_000)).toBe(true);
  cluster.partition([[0], [1, 2, 3]]);
  const [alone, ...rest] = cluster.peers as [TestPeer, ...TestPeer[]];
  expect(cluster.runUntil(() => alone.rounds.filter((round) => !round.final).length >= 2, 120_000)).toBe(true);
  cluster.partition(undefined);
  expect(cluster.runUntil(() => alone.rounds.at(-1)!.final && alone.rounds.at(-1)!.own === 'included', 60_000)).toBe(
    true,
  );
  const told = alone.reports.flatMap((report) => (report.kind === 'warning' ? [report] : []));
  expect(told.map(({ code }) => code)).toEqual(['W_UNFINAL', 'W_OVERRULED', 'W_FINAL_AGAIN']);
  expect(told.at(-1)!.message).toBe('a quorum is back: this round is final');
  for (const peer of rest) expect(peer.reports.filter(({ kind }) => kind === 'warning')).toEqual([]);
  expectNoDivergence(cluster);
});

test('who made the last rounds without the others ends after it has waited for them, and started again takes what they decided', () => {
  const cluster = started(new Cluster(33, 4, { waitFor: 4, rounds: 6 }));
  expect(cluster.runUntil(() => cluster.peers.every((peer) => peer.lastRound >= 2), 60_000)).toBe(true);
  cluster.partition([[0], [1, 2, 3]]);
  const [alone, ...rest] = cluster.peers as [TestPeer, ...TestPeer[]];
  [alone.trainMs, cluster.trainMs] = [200, 500_000];
  const isDone = ({ reports }: TestPeer): boolean => reports.at(-1)?.kind === 'done';
  expect(cluster.runUntil(() => alone.lastRound === 6, 120_000)).toBe(true);
  const sinceMs = cluster.nowMs;
  // long, since so few have made these rounds that the others would make them anew
  expect(cluster.runUntil(() => isDone(alone), 610_000)).toBe(true);
  expect(cluster.nowMs - sinceMs).toBeGreaterThanOrEqual(600_000);
  const warnings = () => alone.reports.flatMap((report) => (report.kind === 'warning' ? [report.code] : []));
  expect(warnings()).toEqual(['W_UNFINAL', 'W_UNFINAL_WAIT', 'W_UNFINAL_END']);
  alone.kill();
  cluster.trainMs = 20_000;
  expect(cluster.runUntil(() => rest.every(({ lastRound }) => lastRound >= 4), 1_200_000)).toBe(true);
  expect(rest.some(isDone)).toBe(false);
  cluster.partition(undefined);
  alone.start();
  const areThrough = () => cluster.peers.every((peer) => peer.lastRound === 6 && isDone(peer));
  expect(cluster.runUntil(areThrough, 1_200_000)).toBe(true);
  expect(cluster.peers.every(({ rounds }) => rounds.at(-1)!.final)).toBe(true);
  expect(warnings()).toContain('W_OVERRULED');
  expectNoDivergence(cluster);
});

test('who has ended and is started again helps one that was away to the end', () => {
  const cluster = started(new Cluster(36, 4, { waitFor: 4, rounds: 5 }));
  expect(cluster.runUntil(() => cluster.peers.every((peer) => peer.lastRound >= 2), 60_000)).toBe(true);
  const [first, , , away] = cluster.peers as [TestPeer, TestPeer, TestPeer, TestPeer];
  away.kill();
  const isDone = ({ reports }: TestPeer): boolean => reports.at(-1)?.kind === 'done';
  const others = cluster.peers.filter((peer) => peer !== away);
  expect(cluster.runUntil(() => others.every(isDone), 120_000)).toBe(true);
  for (const peer of others) peer.kill();
  away.start();
  cluster.runUntil(() => false, 2000);
  expect(away.lastRound).toBeLessThan(5);
  first.start();
  const ends = () => first.reports.filter(({ kind }) => kind === 'done').length;
  cluster.runUntil(() => false, 1000);
  expect(ends()).toBe(1);
  expect(cluster.runUntil(() => isDone(away) && ends() === 2, 30_000)).toBe(true);
  expect(away.lastRound).toBe(5);
  expect(away.rounds.at(-1)!.final).toBe(true);
  expectNoDivergence(cluster);
});

test.each([
  ['at once who has always been alone', 1],
  ['after a while who was left, for one that is on its way back', 2],
])('of a run that is over ends %s', (_, count) => {
  const cluster = started(new Cluster(37, count, { waitFor: count, rounds: 4 }));
  const [stays, leaves] = cluster.peers as [TestPeer, TestPeer | undefined];
  expect(cluster.runUntil(() => stays.lastRound >= 1, 20_000)).toBe(true);
  leaves?.leave();
  expect(cluster.runUntil(() => stays.lastRound >= 4, 60_000)).toBe(true);
  const overMs = cluster.nowMs;
  const isDone = () => stays.reports.some(({ kind }) => kind === 'done');
  expect(isDone()).toBe(count === 1);
  expect(cluster.runUntil(isDone, 5000)).toBe(true);
  expect(cluster.nowMs - overMs).toBeGreaterThanOrEqual(count === 1 ? 0 : 2000);
});

test('a peer says what it waits for: to be let in, or for updates where its own stands from before it was ended', () => {
  const cluster = new Cluster(8, 3);
  const [first, second, late] = cluster.peers as [TestPeer, TestPeer, TestPeer];
  for (const peer of [first, second]) peer.start();
  expect(cluster.runUntil(() => first.lastRound >= 2 && second.lastRound >= 2, 60_000)).toBe(true);
  late.start();
  expect(cluster.runUntil(() => late.machine?.awaits === 'place', 60_000)).toBe(true);
  expect(cluster.runUntil(() => late.rounds.at(-1)?.own === 'included', 60_000)).toBe(true);
  expect(cluster.runUntil(() => late.machine?.awaits === 'updates', 60_000)).toBe(true);
  late.kill();
  late.start();
  expect(late.machine!.awaits).toBe('updates');
});

test('who asked to be let in and goes before it is, is not let in', () => {
  const cluster = new Cluster(34, 2);
  const [founder, guest] = cluster.peers as [TestPeer, TestPeer];
  cluster.trainMs = 60_000;
  founder.start();
  expect(cluster.runUntil(() => founder.lastRound >= 1, 200_000)).toBe(true);
  guest.start();
  const isAsked = () => founder.machine!.load.joins === 1;
  expect(cluster.runUntil(isAsked, 50_000)).toBe(true);
  guest.kill();
  expect(cluster.runUntil(() => founder.lastRound >= 4, 300_000)).toBe(true);
  expect(founder.machine!.standing.roster).toEqual([founder.id]);
  expect(founder.rounds.every(({ final }) => final)).toBe(true);
});

test('without a quorum before the first round a peer says so', () => {
  const cluster = new Cluster(35, 3, { waitFor: 3 });
  const [founder, second, third] = cluster.peers as [TestPeer, TestPeer, TestPeer];
  founder.start();
  second.start();
  const members = () => founder.machine!.standing.roster.length;
  expect(cluster.runUntil(() => members() === 2, 60_000)).toBe(true);
  second.kill();
  third.start();
  const told = () => founder.reports.flatMap((report) => (report.kind === 'warning' ? [report.code] : []));
  expect(cluster.runUntil(() => told().length > 0, 120_000)).toBe(true);
  expect(told()).toEqual(['W_NO_QUORUM']);
  second.start();
  expect(cluster.runUntil(() => founder.lastRound >= 2, 120_000)).toBe(true);
  expect(told()).toEqual(['W_NO_QUORUM', 'W_FINAL_AGAIN']);
});

test('a peer that leaves is out of the roster at once, and two go on without waiting', () => {
  const cluster = started(new Cluster(41, 2, { waitFor: 2 }));
  expect(cluster.runUntil(() => cluster.peers.every((peer) => peer.lastRound >= 2), 60_000)).toBe(true);
  const [stays, leaves] = [cluster.peers[0]!, cluster.peers[1]!];
  const sinceMs = cluster.nowMs;
  leaves.leave();
  expect(cluster.runUntil(() => leaves.reports.some((r) => r.kind === 'done'), 20_000)).toBe(true);
  expect(cluster.nowMs - sinceMs).toBeLessThan(4000);
  leaves.kill();
  const before = stays.lastRound;
  expect(cluster.runUntil(() => stays.lastRound >= before + 3, 20_000)).toBe(true);
  expect(stays.rounds.every((round) => round.final)).toBe(true);
  expect(stays.reports).toContainEqual({ kind: 'peer', peer: leaves.id, change: 'left', members: 1 });
});

test('lost messages delay rounds but never split them', () => {
  const cluster = started(new Cluster(51, 5, { waitFor: 5 }));
  cluster.lossRate = 0.2;
  expect(cluster.runUntil(() => cluster.peers.every((peer) => peer.lastRound >= 8), 300_000)).toBe(true);
  expectNoDivergence(cluster);
});

test('who left and comes back is told that it had left, though it hears of that from others', () => {
  const cluster = started(new Cluster(52, 3, { waitFor: 3 }));
  const [stays, goes] = cluster.peers as [TestPeer, TestPeer];
  expect(cluster.runUntil(() => cluster.peers.every((peer) => peer.lastRound >= 2), 60_000)).toBe(true);
  goes.leave();
  expect(cluster.runUntil(() => !stays.machine!.standing.roster.includes(goes.id), 60_000)).toBe(true);
  goes.kill();
  goes.reports.length = 0;
  goes.start();
  const changes = () =>
    goes.reports.flatMap((report) => (report.kind === 'peer' && report.peer === goes.id ? report.change : []));
  expect(cluster.runUntil(() => changes().includes('joined'), 60_000)).toBe(true);
  expect(changes()).toEqual(['left', 'joined']);
});

test('who comes back before anything has changed is let in, though all that it was told at first is lost on it', () => {
  const cluster = new Cluster(53, 2, { waitFor: 2 });
  cluster.trainMs = 8000;
  const [stays, goes] = started(cluster).peers as [TestPeer, TestPeer];
  expect(cluster.runUntil(() => cluster.peers.every((peer) => peer.lastRound >= 2), 60_000)).toBe(true);
  goes.leave();
  expect(cluster.runUntil(() => goes.reports.some(({ kind }) => kind === 'done'), 60_000)).toBe(true);
  goes.kill();
  cluster.lossRate = 1;
  goes.start();
  cluster.runUntil(() => false, 200);
  cluster.lossRate = 0;
  const before = stays.lastRound;
  expect(cluster.runUntil(() => goes.machine!.standing.roster.includes(goes.id), 200_000)).toBe(true);
  expect(stays.lastRound).toBe(before + 1);
});

test('equal events give equal effects', () => {
  const runs = [1, 2].map(() => {
    const cluster = started(new Cluster(61, 3, { waitFor: 3 }));
    cluster.runUntil(() => cluster.peers.every((peer) => peer.lastRound >= 4), 60_000);
    return JSON.stringify(cluster.peers.map((peer) => peer.reports)) + cluster.nowMs;
  });
  expect(runs[0]).toBe(runs[1]);
});

test('a single member cannot put an unfinal round of its own in place of a quorum in sight', () => {
  const cluster = started(new Cluster(71, 4, { waitFor: 4 }));
  expect(cluster.runUntil(() => cluster.peers.every((peer) => peer.lastRound >= 2), 60_000)).toBe(true);
  const [target, liar] = [cluster.peers[0]!, cluster.peers[3]!];
  const { run } = target.machine!;
  const branch = branchFromLog({ genesis: cluster.genesis, run, signer: liar.signer }, [
    { ...GENESIS, entries: target.machine!.history(WHOLE).entries },
  ]);
  const { block, certificate } = soloEntry(run, branch.head, liar.signer, target.rounds.at(-1)!.root);
  liar.payloads.add(block.updates[0]!.payload);
  const message = { type: 'certificate', run, certificate, block } as const;
  target.give({ type: 'messages', nowMs: cluster.nowMs, from: [liar.id], messages: [message] });
  const before = target.lastRound;
  expect(cluster.runUntil(() => cluster.peers.every((peer) => peer.lastRound >= before + 3), 60_000)).toBe(true);
  for (const peer of cluster.peers) expect(peer.rounds.every((round) => round.final)).toBe(true);
  expectNoDivergence(cluster);
});

test('a long time without a quorum is not told again and again: each asks for what it does not have', () => {
  const cluster = started(new Cluster(77, 3, { waitFor: 3 }));
  expect(cluster.runUntil(() => cluster.peers.every((peer) => peer.lastRound >= 2), 60_000)).toBe(true);
  const asked: PageRequest[] = [];
  const watch = (signer: Signer) => ({
    signer,
    step: (_: Event, effects: readonly Effect[]) => {
      for (const effect of effects) if (effect.type === 'request-history') asked.push(effect.request);
    },
  });
  cluster.peers[2]!.kill();
  const [first, second] = cluster.peers as [TestPeer, TestPeer];
  for (const peer of [first, second]) peer.watcher = watch(peer.signer);
  // words get lost, so now and then one of the two has to ask the other
  cluster.lossRate = 0.3;
  const unfinal = (peer: TestPeer): number => peer.rounds.filter(({ final }) => !final).length;
  expect(cluster.runUntil(() => unfinal(first) >= 40 && unfinal(second) >= 40, 2_000_000)).toBe(true);
  const about = asked.filter(({ skip }) => skip > 0);
  expect(about.length).toBeGreaterThan(3);
  expect(Math.max(...about.map(({ skip }) => skip))).toBeGreaterThan(20);
  expect(asked.filter(({ skip }) => skip === 0).length).toBeLessThan(about.length);
  expectNoDivergence(cluster);
});

test('where genesis forbids unfinal rounds, the rest train on for what one update can carry, and wait, and say so', () => {
  const timing = { graceMs: 2000, viewMs: 2000, quorumWaitMs: null };
  const cluster = started(new Cluster(81, 2, { waitFor: 2, timing }));
  expect(cluster.runUntil(() => cluster.peers.every((peer) => peer.lastRound >= 2), 60_000)).toBe(true);
  cluster.peers[1]!.kill();
  const before = cluster.peers[0]!.lastRound;
  const told = () => cluster.peers[0]!.reports.flatMap((report) => (report.kind === 'warning' ? [report.code] : []));
  expect(cluster.runUntil(() => cluster.peers[0]!.lastRound > before + 1, 120_000)).toBe(false);
  expect(told()).toEqual(['W_NO_QUORUM']);
  const { trainedOn, machine } = cluster.peers[0]!;
  const { innerSteps, batch } = cluster.genesis;
  const { round, places, root } = machine!.standing;
  const place = places.indexOf(cluster.peers[0]!.id);
  // each on the data and at the learning rate of a later round
  const first = round * places.length + place;
  expect(trainedOn.map(({ base, steps, firstStep, firstPosition }) => [base, steps, firstStep, firstPosition])).toEqual(
    [1, 2, 3, 4].map((ahead) => {
      const position = (first + ahead * places.length) * innerSteps * batch;
      return [root, innerSteps, (round + ahead) * innerSteps, position];
    }),
  );
  cluster.peers[1]!.start();
  expect(cluster.runUntil(() => cluster.peers[0]!.lastRound > before + 1, 60_000)).toBe(true);
  expect(told()).toEqual(['W_NO_QUORUM', 'W_FINAL_AGAIN']);
  expect(trainedOn.length).toBe(4);
  expect(cluster.peers[1]!.trainedOn).toEqual([]);
  expectNoDivergence(cluster);
});

test('who is connected and says nothing any more is no voter to wait for where genesis forbids unfinal rounds', () => {
  const timing = { graceMs: 2000, viewMs: 2000, quorumWaitMs: null };
  const cluster = started(new Cluster(84, 3, { waitFor: 3, timing }));
  expect(cluster.runUntil(() => cluster.peers.every((peer) => peer.lastRound >= 2), 60_000)).toBe(true);
  const [first, second, frozen] = cluster.peers as [TestPeer, TestPeer, TestPeer];
  frozen.machine = undefined;
  const told = (peer: TestPeer) => peer.reports.flatMap((report) => (report.kind === 'warning' ? [report.code] : []));
  const rest = [first, second];
  expect(cluster.runUntil(() => rest.every((peer) => told(peer).includes('W_NO_QUORUM')), 300_000)).toBe(true);
  expect(cluster.runUntil(() => rest.every(({ trainedOn }) => trainedOn.length === 4), 100_000)).toBe(true);
  const before = first.lastRound;
  frozen.start();
  expect(cluster.runUntil(() => cluster.peers.every(({ lastRound }) => lastRound > before + 1), 100_000)).toBe(true);
  expect(told(first).slice(-2)).toEqual(['W_NO_QUORUM', 'W_FINAL_AGAIN']);
  expectNoDivergence(cluster);
});

test('nobody trains beyond the update of the last round, or once it has asked to leave', () => {
  const timing = { graceMs: 2000, viewMs: 2000, quorumWaitMs: null };
  const cluster = started(new Cluster(82, 2, { waitFor: 2, timing, rounds: 3 }));
  const [stays, goes] = cluster.peers as [TestPeer, TestPeer];
  expect(cluster.runUntil(() => stays.lastRound >= 2, 60_000)).toBe(true);
  goes.kill();
  const told = () => stays.reports.some((report) => report.kind === 'warning' && report.code === 'W_NO_QUORUM');
  expect(cluster.runUntil(told, 120_000)).toBe(true);
  expect(cluster.runUntil(() => stays.lastRound >= 3, 60_000)).toBe(false);
  expect(stays.trainedOn).toEqual([]);

  const other = started(new Cluster(83, 2, { waitFor: 2, timing }));
  const [leaver, gone] = other.peers as [TestPeer, TestPeer];
  expect(other.runUntil(() => leaver.lastRound >= 2, 60_000)).toBe(true);
  gone.kill();
  leaver.leave();
  expect(other.runUntil(() => leaver.lastRound >= 4, 120_000)).toBe(false);
  expect(leaver.trainedOn).toEqual([]);
});

test('a driver that speaks before start is told so: state from the disk must come before words from the network', () => {
  const cluster = new Cluster(91, 2);
  const [peer, other] = [cluster.peers[0]!, cluster.peers[1]!];
  const machine = new Machine({ signer: peer.signer }, { genesis: cluster.genesis });
  expect(() => machine.step({ type: 'peer', nowMs: 0, peer: other.id, up: true })).toThrow('start comes first');
});

/**
 * A newcomer that is driven by hand, and the founder of a run that is some rounds old, with a state of each round.
 * @param begun round of the state that it was fetching when its process was ended
 */
function newcomerAfter(rounds: number, begun?: number) {
  const cluster = started(new Cluster(31, 1));
  const [founder] = cluster.peers as [TestPeer];
  const states = new Map<number, AgreedState>();
  for (let round = 1; round <= rounds; round++) {
    expect(cluster.runUntil(() => founder.lastRound >= round, 60_000)).toBe(true);
    for (const state of founder.machine!.history(WHOLE).states) states.set(state.round, state);
  }
  const machine = new Machine({ signer: testSigner('newcomer') }, { genesis: cluster.genesis });
  let [nowMs, request] = [0, WHOLE];
  const give = (event: WithoutClock<Event>): readonly Effect[] => {
    const effects = machine.step({ ...event, nowMs: ++nowMs } as Event);
    for (const effect of effects) if (effect.type === 'request-history') request = effect.request;
    return effects;
  };
  const pass = (ms: number): void => {
    nowMs += ms;
  };
  const wait = (ms: number): readonly Effect[] => {
    pass(ms);
    return give({ type: 'wake' });
  };
  give({ type: 'start', restart: null, unfinished: begun === undefined ? begun : states.get(begun)!.snapshot });
  const asks = give({ type: 'peer', peer: founder.id, up: true });
  expect(asks).toContainEqual({ type: 'request-history', peer: founder.id, request: WHOLE });
  const tells = (peer: PeerId, ...served: number[]) => {
    const named = served.map((round) => states.get(round)!);
    return give({ type: 'history', peer, history: { ...founder.machine!.history(request), states: named } });
  };
  const told = (...served: number[]) => tells(founder.id, ...served);
  const blocks = founder
    .machine!.history(WHOLE)
    .entries.map(({ block }) => block)
    .filter(({ kind }) => kind === 'round');
  return { founder: founder.id, states, blocks, give, pass, wait, told, tells };
}

type WithoutClock<T> = T extends unknown ? Omit<T, 'nowMs'> : never;

const fetchesIn = (effects: readonly Effect[]) =>
  effects.filter(({ type }) => type === 'fetch') as (Effect & { type: 'fetch' })[];

const saysJoin = (effects: readonly Effect[]) =>
  effects.some((each) => each.type === 'broadcast' && each.message.type === 'join');

test('who was ended on the way back from a branch goes on from the state before, with nobody there to ask', () => {
  const cluster = started(new Cluster(31, 1));
  const [founder] = cluster.peers as [TestPeer];
  expect(cluster.runUntil(() => founder.lastRound >= 3, 60_000)).toBe(true);
  const { entries, states } = founder.machine!.history(WHOLE);
  const [two, three] = [2, 3].map((round) => states.find((state) => state.round === round)!);
  const blockOf = (round: number) => blockHash(entries.find(({ block }) => block.round === round - 1)!.block);
  const machine = new Machine({ signer: founder.signer }, { genesis: cluster.genesis });
  // its third round is none of these any more
  const segments = [{ ...GENESIS, entries: entries.slice(0, 2) }];
  const saved = [
    { block: blockOf(2), state: two! },
    { block: blockOf(3), state: three! },
  ];
  const effects = machine.step({ type: 'start', nowMs: 1, restart: { segments, states: saved, record: null } });
  expect(effects).toContainEqual(expect.objectContaining({ type: 'restore', block: blockOf(2), state: two }));
  const { snapshot, snapshotBytes } = two!;
  const restored = machine.step({ type: 'restored', nowMs: 2, snapshot, snapshotBytes, error: null });
  expect(restored).toContainEqual(expect.objectContaining({ type: 'train', round: 2 }));
});

test('an unfinal round that nobody has any more is given up, and trained again', () => {
  const cluster = started(new Cluster(31, 1));
  const [founder] = cluster.peers as [TestPeer];
  expect(cluster.runUntil(() => founder.lastRound >= 3, 60_000)).toBe(true);
  const { genesis } = cluster;
  const machine = new Machine({ signer: founder.signer }, { genesis });
  const { entries, states } = founder.machine!.history(WHOLE);
  const state = states.find(({ round }) => round === 2)!;
  const context = { genesis, run: machine.run, signer: founder.signer };
  const certified = entries.slice(0, entries.findIndex(({ block }) => block.round === 1) + 1);
  const { head } = branchFromLog(context, [{ ...GENESIS, entries: certified }]);
  const lost = soloEntry(machine.run, head, founder.signer, rootOf(state));
  const segments = [{ ...GENESIS, entries: [...certified, lost] }];
  let nowMs = 1;
  const give = (event: WithoutClock<Event>): readonly Effect[] => machine.step({ ...event, nowMs } as Event);
  const warned = (effects: readonly Effect[]): string[] =>
    effects.flatMap((each) => (each.type === 'report' && each.report.kind === 'warning' ? [each.report.code] : []));
  let effects = give({ type: 'start', restart: { segments, states: [{ block: head.tip, state }], record: null } });
  const update = lost.block.updates[0]!;
  while (!warned(effects).includes('W_ROUND_LOST')) {
    expect(nowMs).toBeLessThan(4 * genesis.timing.quorumWaitMs!);
    const isAsked = fetchesIn(effects).some((fetch) => fetch.update.payload === update.payload);
    effects = give(isAsked ? { type: 'payload', update, error: 'E_BLOB_UNAVAILABLE' } : { type: 'wake' });
    nowMs += 600;
  }
  expect(nowMs).toBeGreaterThan(2 * genesis.timing.quorumWaitMs!);
  expect(effects).toContainEqual(expect.objectContaining({ type: 'train', round: 2, base: rootOf(state) }));
  // somebody comes who tells of it again, and may have all of it: that is waited for anew
  if (fetchesIn(effects).length > 0) give({ type: 'payload', update, error: 'E_BLOB_UNAVAILABLE' });
  nowMs += 600;
  const peer = testSigner('another').self;
  give({ type: 'peer', peer, up: true });
  nowMs += 600;
  const { height, unfinalTokens, round, tip } = { ...head, unfinalTokens: 1000, round: head.round + 1, tip: head.tip };
  const fields = { author: peer, height, unfinalTokens, round, tip };
  const signature = testSigner('another').sign(statusBytes(machine.run, fields));
  const status: Message = { type: 'status', run: machine.run, ...fields, signature };
  const asks = give({ type: 'messages', messages: [status], from: [peer] });
  expect(asks).toContainEqual(expect.objectContaining({ type: 'request-history', peer }));
  const history = { run: machine.run, anchors: [], entries: [lost], more: false, states: [] };
  const again = give({ type: 'history', peer, history });
  expect(fetchesIn(again).map((fetch) => fetch.update.payload)).toEqual([update.payload]);
  expect(warned(again)).toEqual([]);
  expect(machine.follows(blockHash(lost.block))).toBe(true);
});

test('a state from which the rest cannot be replayed, since payloads are not kept so long, is not taken', () => {
  const { told } = newcomerAfter(30);
  const effects = told(30 - 1 - LIMITS.payloadRoundsKept);
  expect(effects.map(({ type }) => type)).not.toContain('restore');
  expect(effects).toContainEqual({ type: 'report', report: expect.objectContaining({ code: 'W_NO_STATE' }) });
});

test('a state that a peer has already is not fetched again while a payload after it cannot be had', () => {
  const { give, pass, wait, told, states } = newcomerAfter(20);
  const restored = (round: number): readonly Effect[] => {
    const { snapshot, snapshotBytes } = states.get(round)!;
    return give({ type: 'restored', snapshot, snapshotBytes, error: null });
  };
  told(17);
  const [fetch] = fetchesIn(restored(17));
  told(17);
  pass(1000);
  const asks = give({ type: 'payload', update: fetch!.update, error: 'E_BLOB_UNAVAILABLE' });
  expect(asks.map(({ type }) => type)).toContain('request-history');
  const again = [...told(17), ...wait(1000)];
  expect(again.map(({ type }) => type)).not.toContain('restore');
  // it asks on, for the payload and for others' states
  expect(fetchesIn(asks).map(({ update }) => update)).toContain(fetch!.update);
  expect(again.map(({ type }) => type)).toContain('request-history');
  told(17);
  pass(1000);
  give({ type: 'payload', update: fetch!.update, error: 'E_BLOB_UNAVAILABLE' });
  expect(told(19)).toContainEqual(expect.objectContaining({ type: 'restore', state: states.get(19) }));
});

test.each([
  [17, 17],
  // nobody serves it any more
  [16, 18],
  // what comes after it is not to be had
  [20 - 1 - LIMITS.payloadRoundsKept, 18],
])(
  'of a snapshot of round %i that a process before has begun to fetch it goes on with that of round %i',
  (begun, taken) => {
    const { give, wait, told, states } = newcomerAfter(20, begun);
    const served = [17, 18, ...(begun < 12 ? [begun] : [])];
    const restores = (effects: readonly Effect[]) =>
      effects.flatMap((effect) => (effect.type === 'restore' ? [effect.state.round] : []));
    expect(restores(told(...served))).toEqual([taken]);
    // only once: who says that it serves the state may not
    const { snapshot, snapshotBytes } = states.get(taken)!;
    const asks = [...give({ type: 'restored', snapshot, snapshotBytes, error: 'E_BLOB_UNAVAILABLE' }), ...wait(1000)];
    expect(asks.map(({ type }) => type)).toContain('request-history');
    expect(restores(told(...served))).toEqual([18]);
  },
);

test('others are asked after a peer that told of a state which could not be had, for as long as that took', () => {
  const { founder, states, give, pass, wait, told, tells } = newcomerAfter(20);
  const other = testSigner('another').self;
  give({ type: 'peer', peer: other, up: true });
  const askedOf = (effects: readonly Effect[]) =>
    effects.flatMap((effect) => (effect.type === 'request-history' ? [effect.peer] : []));
  const restores = (effects: readonly Effect[]) =>
    effects.flatMap((effect) => (effect.type === 'restore' ? [effect.state.round] : []));
  const fails = (round: number) => {
    const { snapshot, snapshotBytes } = states.get(round)!;
    pass(40_000);
    return give({ type: 'restored', snapshot, snapshotBytes, error: 'E_BLOB_UNAVAILABLE' });
  };
  expect(restores(told(17))).toEqual([17]);
  const asked = askedOf(fails(17));
  for (let ms = 0; ms < 20_000; ms += 1000) asked.push(...askedOf(wait(1000)));
  expect([...new Set(asked)]).toEqual([other]);
  expect(restores(tells(other, 18))).toEqual([18]);
  // with nobody else there it is asked at once
  give({ type: 'peer', peer: other, up: false });
  expect(restores([...fails(18), ...told(19)])).toEqual([19]);
  expect(askedOf(fails(19))).toEqual([founder]);
});

test('who catches up fetches the payloads of two blocks more than the one whose turn it is', () => {
  const { give, told, states, blocks } = newcomerAfter(20);
  const payloadsOf = (effects: readonly Effect[]) => fetchesIn(effects).map(({ update }) => update.payload);
  const listed = blocks.map(({ updates }) => updates.map(({ payload }) => payload));
  told(14);
  const { snapshot, snapshotBytes } = states.get(14)!;
  const fetches = fetchesIn(give({ type: 'restored', snapshot, snapshotBytes, error: null }));
  expect(fetches.map(({ update }) => update.payload)).toEqual(listed.slice(14, 17).flat());
  // a later one first: nothing is applied before its turn, or asked for twice
  const early = give({ type: 'payload', update: fetches[1]!.update, error: null });
  expect(early.filter(({ type }) => type !== 'wake')).toEqual([]);
  const effects = give({ type: 'payload', update: fetches[0]!.update, error: null });
  expect(payloadsOf(effects)).toEqual([]);
  const { block } = effects.find(({ type }) => type === 'apply') as Effect & { type: 'apply' };
  const next = states.get(15)!;
  const applied = give({ type: 'applied', block, snapshot: next.snapshot, snapshotBytes: 1 });
  expect(payloadsOf(applied)).toEqual(listed[17]);
  expect(applied.map(({ type }) => type)).toContain('apply');
});

test('a payload of a later block that nobody had is asked for again when its turn comes', () => {
  const { give, pass, wait, told, states } = newcomerAfter(20);
  told(14);
  const { snapshot, snapshotBytes } = states.get(14)!;
  const fetches = fetchesIn(give({ type: 'restored', snapshot, snapshotBytes, error: null }));
  const [first, second] = fetches as [Effect & { type: 'fetch' }, Effect & { type: 'fetch' }];
  expect(fetches.map(({ round }) => round)).toEqual([14, 15, 16]);
  const missed = give({ type: 'payload', update: second.update, error: 'E_BLOB_UNAVAILABLE' });
  expect(fetchesIn([...missed, ...wait(1000), ...wait(1000)])).toEqual([]);
  const effects = give({ type: 'payload', update: first.update, error: null });
  const { block } = effects.find(({ type }) => type === 'apply') as Effect & { type: 'apply' };
  const next = states.get(15)!;
  const applied = give({ type: 'applied', block, snapshot: next.snapshot, snapshotBytes: 1 });
  expect(fetchesIn(applied).map(({ update }) => update)).toContain(second.update);
  // nobody is asked for a state yet: who had it not then may have it now
  const types = (effects: readonly Effect[]) => effects.map(({ type }) => type);
  expect(types(applied)).not.toContain('request-history');
  pass(60_000); // a question of before is not waited for any more
  const lost = give({ type: 'payload', update: second.update, error: 'E_BLOB_UNAVAILABLE' });
  expect(types(lost)).toContain('request-history');
});

test('a joiner asks to be let in when it is a round behind at most, not while it is still catching up', () => {
  const { give, wait, told, states } = newcomerAfter(20);
  const state = states.get(17)!;
  expect(told(17)).toContainEqual(expect.objectContaining({ type: 'restore', state }));
  const { snapshot, snapshotBytes } = state;
  let effects = give({ type: 'restored', snapshot, snapshotBytes, error: null });
  const fetches = fetchesIn(effects);
  for (let round = 18; round <= 19; round++) {
    expect([round, saysJoin(effects), saysJoin(wait(5000))]).toEqual([round, false, false]);
    effects = give({ type: 'payload', update: fetches.shift()!.update, error: null });
    const { block } = effects.find(({ type }) => type === 'apply') as Effect & { type: 'apply' };
    const next = states.get(round)!;
    effects = give({ type: 'applied', block, snapshot: next.snapshot, snapshotBytes: 1 });
  }
  expect(saysJoin([...effects, ...wait(5000)])).toBe(true);
});

test('somebody stays where the last who contributes leaves just when all others are silent for too long', () => {
  const cluster = new Cluster(5, 2, { waitFor: 2 });
  const [one, other] = cluster.peers as [TestPeer, TestPeer];
  other.trainMs = 1e12;
  started(cluster);
  expect(cluster.runUntil(() => one.lastRound >= LIMITS.evictAfterRounds + 1, 6_000_000)).toBe(true);
  one.leave();
  cluster.runUntil(() => false, 200_000);
  expect(one.reports.at(-1)).toEqual({ kind: 'done', reason: 'left' });
  expect(other.machine!.standing.roster).toEqual([other.id]);
});
