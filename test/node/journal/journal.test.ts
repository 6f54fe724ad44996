import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { describeEffect } from '../../../node/journal/describe.ts';
import { type Facts, noFacts } from '../../../node/journal/facts.ts';
import { decodeStep, encodeStep, type Head, JOURNAL_FORMAT } from '../../../node/journal/format.ts';
import { journalFiles } from '../../../node/journal/journal.ts';
import { replay } from '../../../node/journal/replay.ts';
import { framed, readFramed } from '../../../node/store/framed.ts';
import { decodeCanonical, encodeCanonical } from '../../../protocol/encoding.ts';
import type { Event } from '../../../protocol/events.ts';
import { runIdOf } from '../../../protocol/genesis.ts';
import { encodeMessage, type MessageOf } from '../../../protocol/messages.ts';
import { updateBytes } from '../../../protocol/signing.ts';
import { Cluster, type TestPeer } from '../../helpers/cluster.ts';
import { journaled } from '../../helpers/journaled.ts';
import { testSigner } from '../../helpers/signers.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

function replayAll(folder: string, facts: Facts = noFacts()) {
  return journalFiles(folder).map((path) => replay(readFileSync(path), facts));
}

/** The last root that was reported for each round, which a restarted peer may have reported twice. */
function rootsOf(peer: TestPeer): [number, string][] {
  return [...new Map(peer.rounds.map(({ round, root }) => [round, root]))];
}

function replayedRoots({ rounds }: Facts): [number, string][] {
  const reports = [...rounds.values()].flatMap((each) => each.reports.slice(-1));
  return reports.map(({ round, root }): [number, string] => [round, root]).sort(([a], [b]) => a - b);
}

test.each([1, 2, 3])(
  'with loss, kills and a partition a replay makes every effect and root again, seed %i',
  async (seed) => {
    const cluster = new Cluster(seed, 4, { waitFor: 4 });
    cluster.inline = seed > 1;
    const journals = cluster.peers.map((_, i) => journaled(cluster, i, temporaryFolder()));
    for (const peer of cluster.peers) peer.start();
    cluster.lossRate = 0.05;
    const [first, second] = cluster.peers as [TestPeer, TestPeer, TestPeer, TestPeer];
    const reached = (round: number) => () => cluster.peers.every((peer) => !peer.machine || peer.lastRound >= round);
    expect(cluster.runUntil(reached(3), 200_000)).toBe(true);
    second.kill();
    expect(cluster.runUntil(() => first.lastRound >= 5, 200_000)).toBe(true);
    second.start();
    expect(cluster.runUntil(reached(7), 200_000)).toBe(true);
    cluster.partition([
      [0, 1],
      [2, 3],
    ]);
    expect(cluster.runUntil(() => cluster.peers.every((peer) => !peer.rounds.at(-1)!.final), 200_000)).toBe(true);
    cluster.partition(undefined);
    const healed = () => cluster.peers.every((peer) => peer.rounds.at(-1)!.final && peer.lastRound >= 10);
    expect(cluster.runUntil(healed, 400_000)).toBe(true);
    await Promise.all(journals.map((journal) => journal.close()));
    for (const [i, { folder }] of journals.entries()) {
      const facts = noFacts();
      const replays = replayAll(folder, facts);
      expect(replays.map(({ difference, tornBytes }) => [difference, tornBytes])).toEqual(replays.map(() => [null, 0]));
      expect(replays.length).toBe(i === 1 ? 2 : 1);
      expect(replayedRoots(facts)).toEqual(rootsOf(cluster.peers[i]!).sort(([a], [b]) => a - b));
    }
  },
);

test('full files make room for new ones, and each can be replayed without those before it', async () => {
  const cluster = new Cluster(5, 4, { waitFor: 4 });
  cluster.inline = true;
  const limits = { fileBytesMax: 64 * 1024, bytesMax: 600 * 1024 };
  const journal = journaled(cluster, 2, temporaryFolder(), limits);
  for (const peer of cluster.peers) peer.start();
  cluster.lossRate = 0.05;
  expect(cluster.runUntil(() => cluster.peers.every((peer) => peer.lastRound >= 80), 2_000_000)).toBe(true);
  await journal.close();
  const names = readdirSync(journal.folder);
  expect(names).not.toContain('000001.journal');
  const sizes = names.map((name) => statSync(join(journal.folder, name)).size);
  const history = statSync(join(journal.folder, '..', 'chain', '000001.log')).size;
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(limits.bytesMax + limits.fileBytesMax + history);
  const roots = new Map(rootsOf(cluster.peers[2]!));
  const all = new Set<number>();
  for (const path of journalFiles(journal.folder)) {
    const facts = noFacts();
    const result = replay(readFileSync(path), facts);
    expect([path, result.continued, result.difference]).toEqual([path, true, null]);
    for (const [round, root] of replayedRoots(facts)) {
      expect(root).toBe(roots.get(round));
      all.add(round);
    }
  }
  // one after the other they have every round from the oldest one on
  const kept = [...all].sort((a, b) => a - b);
  expect(kept.at(-1)).toBe(cluster.peers[2]!.lastRound);
  expect(kept.length).toBe(kept.at(-1)! - kept[0]! + 1);
  expect(kept.length).toBeGreaterThan(10);
});

async function shortJournal() {
  const cluster = new Cluster(6, 3, { waitFor: 3, rounds: 4 });
  const journal = journaled(cluster, 1, temporaryFolder());
  for (const peer of cluster.peers) peer.start();
  const done = () => cluster.peers.every((peer) => peer.reports.some(({ kind }) => kind === 'done'));
  expect(cluster.runUntil(done, 200_000)).toBe(true);
  await journal.close();
  const [path] = journalFiles(journal.folder) as [string];
  return { path, bytes: readFileSync(path), peer: cluster.peers[1]! };
}

test('a tail cut off at any byte is left out, what was before it is replayed', async () => {
  const { bytes, peer } = await shortJournal();
  const { contents } = readFramed(bytes);
  const whole = bytes.length - framed(contents.at(-1)!).length;
  for (const cut of [1, 20, 36, 50]) {
    const facts = noFacts();
    const result = replay(bytes.subarray(0, whole + cut), facts);
    expect(result).toMatchObject({ events: contents.length - 2, difference: null, tornBytes: cut, damaged: false });
    expect(replayedRoots(facts)).toEqual(rootsOf(peer));
  }
});

test('a byte that changed in the middle is damage, and zeros at the end are not', async () => {
  const { bytes } = await shortJournal();
  const { contents } = readFramed(bytes);
  const lengths = contents.slice(-2).map((content) => framed(content).length);
  const last = bytes.length - lengths[1]!;
  // the end of a content, a length that reaches beyond the end of the file then, and the last byte, with nothing behind it
  for (const [place, lost] of [
    [last - 1, 2],
    [last - lengths[0]! + 3, 2],
    [bytes.length - 1, 1],
  ] as const) {
    const changed = Uint8Array.from(bytes, (byte, i) => (i === place ? byte ^ 1 : byte));
    const events = contents.length - 1 - lost;
    expect(replay(changed, noFacts())).toMatchObject({ events, difference: null, damaged: true });
  }
  const grown = Buffer.concat([bytes, new Uint8Array(500)]);
  expect(replay(grown, noFacts())).toMatchObject({ events: contents.length - 1, tornBytes: 500, damaged: false });
});

test('the first step that is not what was written down is named', async () => {
  const { bytes } = await shortJournal();
  const { contents } = readFramed(bytes);
  const steps = contents
    .slice(1)
    .map((content) => decodeCanonical(content, 1e6) as [{ type: string }, unknown, string[]]);
  const at = steps.findIndex(([, , outcome]) => outcome.some((line) => line.startsWith('round 3')));
  const changed = (step: number, change: (outcome: string[]) => string[]) =>
    Buffer.concat(
      contents.map((content, i) => {
        if (i !== step + 1) return framed(content);
        const [event, signed, outcome] = steps[step]!;
        return framed(encodeCanonical([event, signed, change(outcome)]));
      }),
    );
  const otherRoot = changed(at, (outcome) => outcome.map((line) => line.replace(/root ..../, 'root ffff')));
  const { difference } = replay(otherRoot, noFacts());
  expect(difference).toMatchObject({ event: at + 1, type: 'applied' });
  expect(difference!.expected).toMatch(/^round 3 root ffff/);
  expect(difference!.got).toMatch(/^round 3 root (?!ffff)/);
  const oneMore = replay(
    changed(at, (outcome) => [...outcome, 'finish']),
    noFacts(),
  );
  expect(oneMore.difference).toMatchObject({ event: at + 1, expected: 'finish', got: '' });
  // an event that never was: the machine takes another way from there on
  const without = Buffer.concat(contents.filter((_, i) => i !== at + 1).map(framed));
  expect(replay(without, noFacts()).difference).not.toBeNull();
});

test('what rides in headers is left out, but for that there is something, and what was wrong with it', () => {
  const [founder, other] = [testSigner('founder'), testSigner('other')];
  const { genesis } = new Cluster(8, 1);
  const run = runIdOf(genesis);
  const header = (tokens: number, inline: Uint8Array | null): MessageOf<'header'> => {
    const named = { author: other.self, payload: run, size: 100, tokens, steps: 1, loss: 1 };
    const update = { ...named, signature: other.sign(updateBytes(run, 3, run, named)) };
    return { type: 'header', run, round: 3, base: run, update, inline };
  };
  const empty = new Uint8Array(0);
  const [bare, good, bad] = [header(1, null), header(2, new Uint8Array(100)), header(3, new Uint8Array(100).fill(1))];
  const from = [founder.self, other.self, founder.self];
  const given: Event[] = [
    { type: 'messages', nowMs: 1.5, messages: [bare, good, bad], from },
    { type: 'taken', nowMs: 2, headers: [good, bad], refused: new Map([[bad, 'E_PAYLOAD_FORMAT']]) },
  ];
  const head: Head = {
    format: JOURNAL_FORMAT,
    self: founder.self,
    genesis: empty,
    clockMs: 0,
    continued: false,
    restart: null,
  };
  const came = [bare, good, bad].map(encodeMessage);
  const read = given.map((event, i) => {
    const bytes = encodeStep({ event, signed: [], outcome: [] }, i === 0 ? came : undefined);
    expect(bytes.length).toBeLessThan(3 * 600);
    return decodeStep(bytes, head, run, founder).event;
  });
  const [goodAgain, badAgain] = [good, bad].map((each) => ({ ...each, inline: empty }));
  expect(read[0]).toEqual({ type: 'messages', nowMs: 1.5, messages: [bare, goodAgain, badAgain], from });
  const taken = read[1] as Event & { type: 'taken' };
  expect(taken).toMatchObject({ type: 'taken', nowMs: 2, headers: [goodAgain, badAgain] });
  expect(taken.headers.map((each) => taken.refused.get(each))).toEqual([undefined, 'E_PAYLOAD_FORMAT']);
});

test('what is no journal is said to be none', async () => {
  const { bytes } = await shortJournal();
  const { contents } = readFramed(bytes);
  const head = decodeCanonical(contents[0]!, 1e6) as object;
  const cases = [
    new Uint8Array(0),
    new TextEncoder().encode('{"event":"round"}'.repeat(20)),
    framed(encodeCanonical({ ...head, format: 1 })),
    Buffer.concat([framed(contents[0]!), framed(encodeCanonical('a step'))]),
  ];
  for (const wrong of cases) {
    expect(() => replay(wrong, noFacts())).toThrow(expect.objectContaining({ code: 'E_JOURNAL_FORMAT' }));
  }
});

test('a file takes no more of a round than it may have, and the next one begins with the next round', async () => {
  const cluster = new Cluster(8, 4, { waitFor: 4 });
  const limits = { fileBytesMax: 2 * 1024, bytesMax: 4 * 1024 };
  const journal = journaled(cluster, 2, temporaryFolder(), limits);
  for (const peer of cluster.peers) peer.start();
  expect(cluster.runUntil(() => cluster.peers.every((peer) => peer.lastRound >= 20), 400_000)).toBe(true);
  await journal.close();
  expect(journal.warnings.length).toBeGreaterThan(10);
  expect(new Set(journal.warnings)).toEqual(new Set(['W_JOURNAL']));
  const paths = journalFiles(journal.folder);
  expect(Number(/(\d+)[.]journal$/.exec(paths.at(-1)!)![1])).toBeGreaterThan(10);
  for (const path of paths) {
    const { contents } = readFramed(readFileSync(path));
    // all but the last of the events after the head are within
    const bytes = contents.slice(1, -1).reduce((sum, content) => sum + content.length, 0);
    expect(bytes).toBeLessThan(limits.bytesMax);
    expect(replay(readFileSync(path), noFacts()).difference).toBeNull();
  }
});

test('a disk that fails ends the journal with a warning, and the peer goes on', async () => {
  const cluster = new Cluster(7, 1);
  const folder = temporaryFolder();
  writeFileSync(join(folder, 'journal'), 'a file where a folder should be');
  const journal = journaled(cluster, 0, folder);
  cluster.peers[0]!.start();
  expect(cluster.runUntil(() => cluster.peers[0]!.lastRound >= 3, 20_000)).toBe(true);
  await journal.close();
  expect(journal.warnings).toEqual(['W_JOURNAL']);
});

test('a vote that is not remembered is a difference', () => {
  const [run, signer] = ['ab'.repeat(32), testSigner('voter')];
  const signature = new Uint8Array(64);
  const vote = {
    type: 'vote',
    run,
    author: signer.self,
    kind: 'nullify',
    height: 3,
    view: 0,
    block: null,
    signature,
  } as const;
  const record = { height: 3, votes: [vote], certificates: [], proposals: [], headers: [] };
  const [whole, less] = [record, { ...record, votes: [] }].map((each) => {
    return describeEffect({ type: 'persist', record: each });
  });
  expect(whole).not.toBe(less);
});
