import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { type Facts, noFacts, type RoundFacts } from '../../../node/journal/facts.ts';
import { journalFiles } from '../../../node/journal/journal.ts';
import { replay } from '../../../node/journal/replay.ts';
import { type Reason, whyNot } from '../../../node/journal/why.ts';
import { Cluster, type TestPeer } from '../../helpers/cluster.ts';
import { type Journaled, journaled } from '../../helpers/journaled.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

/** What peer `self`'s journal says of the updates of `peer`. */
async function ask(journal: Journaled, self: TestPeer, peer: TestPeer): Promise<(round: number) => Reason> {
  await journal.close();
  const facts = noFacts();
  for (const path of journalFiles(journal.folder)) expect(replay(readFileSync(path), facts).difference).toBeNull();
  return (round) => whyNot(facts, round, peer.id, self.id).reason;
}

function run(cluster: Cluster, condition: () => boolean): void {
  expect(cluster.runUntil(condition, 1_000_000)).toBe(true);
}

test('a slow peer was still training, to the others it had said nothing; sometimes it was just too late', async () => {
  const cluster = new Cluster(11, 4, { waitFor: 4 });
  const [fast, , , slow] = cluster.peers as [TestPeer, TestPeer, TestPeer, TestPeer];
  const journals = [journaled(cluster, 0, temporaryFolder()), journaled(cluster, 3, temporaryFolder())] as const;
  for (const peer of cluster.peers) peer.start();
  run(cluster, () => fast.lastRound >= 2);
  // the others are done after a second, and wait for half of that and two seconds more: it is done before, about then, or later
  run(cluster, () => {
    slow.trainMs = 2900 + 100 * (fast.lastRound % 8);
    return fast.lastRound >= 30;
  });
  const ownView = await ask(journals[1], slow, slow);
  const view = await ask(journals[0], fast, slow);
  const asked = fast.rounds.map(({ round, contributors }) => ({
    included: contributors.includes(slow.id),
    reasons: [ownView(round), view(round)],
  }));
  for (const { included, reasons } of asked) {
    if (included) expect(reasons).toEqual(['included', 'included']);
    else expect(reasons).not.toContain('included');
  }
  const own = new Set(asked.map(({ reasons }) => reasons[0]));
  expect([...own]).toEqual(expect.arrayContaining(['included', 'training', 'too-late']));
  const others = new Set(asked.map(({ reasons }) => reasons[1]));
  expect([...others]).toEqual(expect.arrayContaining(['included', 'no-header']));
});

test('a killed peer was ended in its training, then did not train, and where it came back too late for payloads it was overtaken', async () => {
  const cluster = new Cluster(12, 4, { waitFor: 4 });
  const [first, , killed] = cluster.peers as [TestPeer, TestPeer, TestPeer, TestPeer];
  const journal = journaled(cluster, 2, temporaryFolder());
  for (const peer of cluster.peers) peer.start();
  const missed: number[] = [];
  for (const rounds of [3, 20]) {
    const before = first.lastRound;
    run(cluster, () => first.lastRound > before && killed.lastRound > before);
    killed.kill();
    const gone = first.lastRound;
    run(cluster, () => first.lastRound >= gone + rounds);
    missed.push(gone + 1, gone + 2);
    killed.start();
    run(cluster, () => first.rounds.at(-1)!.contributors.includes(killed.id));
  }
  const reason = await ask(journal, killed, killed);
  expect(missed.map(reason)).toEqual(['ended', 'not-training', 'overtaken', 'overtaken']);
  expect(() => reason(1000)).toThrow(expect.objectContaining({ code: 'E_ROUND' }));
});

test('what a peer went through alone, and others have not, says nothing of their rounds', async () => {
  const cluster = new Cluster(14, 4, { waitFor: 4 });
  const [first, , , alone] = cluster.peers as [TestPeer, TestPeer, TestPeer, TestPeer];
  const journal = journaled(cluster, 3, temporaryFolder());
  for (const peer of cluster.peers) peer.start();
  run(cluster, () => cluster.peers.every(({ lastRound }) => lastRound >= 3));
  cluster.partition([[0, 1, 2], [3]]);
  run(cluster, () => alone.rounds.filter(({ final }) => !final).length >= 2);
  const apart = alone.rounds.filter(({ final }) => !final).map(({ round }) => round);
  run(cluster, () => first.lastRound >= apart[0]! + 12);
  cluster.partition(undefined);
  run(cluster, () => first.rounds.at(-1)!.contributors.includes(alone.id));
  const reason = await ask(journal, alone, alone);
  const others = first.rounds.filter(({ round }) => apart.includes(round));
  for (const { contributors } of others) expect(contributors).not.toContain(alone.id);
  expect(apart.map(reason)).toEqual(apart.map(() => 'overtaken'));
  expect(reason(first.lastRound)).toBe('included');
});

test('who has not joined has no place', async () => {
  const cluster = new Cluster(13, 4, { waitFor: 3 });
  const [first, second, , late] = cluster.peers as [TestPeer, TestPeer, TestPeer, TestPeer];
  const journal = journaled(cluster, 1, temporaryFolder());
  for (const peer of cluster.peers.slice(0, 3)) peer.start();
  run(cluster, () => first.lastRound >= 2);
  late.start();
  run(cluster, () => second.rounds.at(-1)!.contributors.includes(late.id));
  const reason = await ask(journal, second, late);
  expect(reason(2)).toBe('no-place');
  expect(reason(second.lastRound)).toBe('included');
});

test('nothing is said of rounds before the first that the journal has', () => {
  const rounds = new Map([[81, { round: 81, places: ['one'], headers: new Map(), proposals: new Map(), reports: [] }]]);
  const facts = { ...noFacts(), rounds, restored: [{ atMs: 1, round: 90, before: 81 }] };
  expect(whyNot(facts, 82, 'one', 'one').reason).toBe('overtaken');
  expect(() => whyNot(facts, 5, 'one', 'one')).toThrow(expect.objectContaining({ code: 'E_ROUND' }));
});

test('a round that a peer went through while nothing was written down is not said to be overtaken', () => {
  const ended = (round: number) => {
    const reports = [{ kind: 'round', round }] as RoundFacts['reports'];
    return [round, { round, places: ['one'], headers: new Map(), proposals: new Map(), reports }] as const;
  };
  const restored = [{ atMs: 1, round: 50, before: 30 }];
  const facts = { ...noFacts(), rounds: new Map([ended(11), ended(21), ended(51)]), restored };
  expect([15, 40].map((round) => whyNot(facts, round, 'one', 'one').reason)).toEqual(['gap', 'overtaken']);
  expect(() => whyNot(facts, 60, 'one', 'one')).toThrow(expect.objectContaining({ code: 'E_ROUND' }));
});

test('a round that is over, and whose end the journal does not have, is not said to be open', () => {
  const facts = { restored: [], startsMs: [] };
  const rounds = (reported: number[]) =>
    new Map(
      [7, 8, 9].map((round) => {
        const reports = reported.includes(round) ? [{} as never] : [];
        return [round, { round, places: ['one'], headers: new Map(), proposals: new Map(), reports }];
      }),
    );
  const reasonOf = (reported: number[]) =>
    whyNot({ ...noFacts(), ...facts, rounds: rounds(reported) }, 8, 'one', 'one').reason;
  expect(reasonOf([7])).toBe('open');
  expect(reasonOf([7, 9])).toBe('gap');
});

test('a header in time with a payload that was refused, or late, or here', () => {
  const round = (): RoundFacts => ({
    round: 5,
    places: ['leader', 'other'],
    headers: new Map([['other', [{ atMs: 1000, payload: 'p', base: 'state' }]]]),
    proposals: new Map([['block', { atMs: 2000, author: 'leader', authors: ['leader'] }]]),
    decided: { atMs: 2500, block: 'block', base: 'state', authors: ['leader'], final: true },
    reports: [],
  });
  const reason = (payloads: Facts['payloads'], facts = round()) =>
    whyNot({ ...noFacts(), rounds: new Map([[5, facts]]), payloads }, 5, 'other', 'leader');
  const known = (atMs: number, error: string | null) => new Map([['p', { atMs, error }]]);
  expect(reason(known(1500, 'E_PAYLOAD_FORMAT'))).toMatchObject({ reason: 'refused' });
  expect(reason(known(1500, 'E_PAYLOAD_FORMAT')).text).toContain('E_PAYLOAD_FORMAT');
  expect(reason(known(2250, null)).text).toContain('0.25 s after');
  expect(reason(known(2250, null)).reason).toBe('payload-missing');
  expect(reason(new Map()).reason).toBe('payload-missing');
  expect(reason(known(1500, null)).reason).toBe('not-listed');
  expect(
    reason(known(1500, null), {
      ...round(),
      headers: new Map([['other', [{ atMs: 2100, payload: 'p', base: 'state' }]]]),
    }),
  ).toEqual({
    round: 5,
    peer: 'other',
    reason: 'too-late',
    text: 'its header came 0.10 s after the list of this peer that was decided on',
  });
});
