import { describe, expect, test } from 'vitest';
import { AnchorChain, isVouchedFor } from '../../protocol/anchors.ts';
import { checkEntry, firstHead, type Head, headBefore, headFacts, headHash } from '../../protocol/chain.ts';
import { runIdOf } from '../../protocol/genesis.ts';
import { Branch } from '../../protocol/history.ts';
import { comparePeers, type PeerId } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { type Beginning, encodeAnchor, encodeEntry } from '../../protocol/messages.ts';
import { quorumOf } from '../../protocol/roster.ts';
import { blockHash, joinBytes, leaveBytes, voteBytes } from '../../protocol/signing.ts';
import type { Anchor, Block, Entry, VoteKind } from '../../protocol/wire.ts';
import { testGenesis } from '../helpers/cluster.ts';
import { factsOf, signedEntry, WHOLE } from '../helpers/history.ts';
import { testSigner } from '../helpers/signers.ts';

describe('anchors of a large roster', () => {
  const signers = Array.from({ length: 700 }, (_, i) => testSigner(`member ${i}`).self).sort(comparePeers);
  const genesis = testGenesis(signers[0]!);
  const run = runIdOf(genesis);

  /** Signed by a quorum; not really, for a branch takes what was checked. */
  function entryOn(head: Head, block: Partial<Block>): Entry {
    const height = head.height + 1;
    const empty = { updates: [], joins: [], leaves: [], evictions: [], members: null, base: run };
    const place = { height, previous: head.tip, round: head.round, head: headHash(head) };
    const whole: Block = { kind: 'round', ...empty, ...place, ...block };
    const quorum = Array.from({ length: quorumOf(head.committee.length) }, (_, i) => head.committee.length - 1 - i);
    const signatures = quorum.reverse().map((at): [number, Uint8Array] => [at, new Uint8Array(64)]);
    return { block: whole, certificate: { kind: 'finalize', height, view: 0, block: blockHash(whole), signatures } };
  }

  /** A branch that begins at some height with all of them. */
  function branchAt(height: number): Branch {
    const roster = signers.slice(0, 690).map((peer) => ({ peer, lastRound: 90 }));
    const head = factsOf(roster);
    const place = { height, previous: run, round: 90 } as Block;
    const entry = entryOn(headBefore(genesis, head, place), {});
    return new Branch(
      { genesis, run, signer: testSigner('x') },
      { anchors: [{ head, entry }], passed: null, pinned: null },
    );
  }

  test('a peer that comes or goes changes one voter at most, whatever its place in the roster', () => {
    const branch = branchAt(10);
    const before = new Set(branch.head.committee);
    expect(before.size).toBe(200);
    const joins = signers
      .slice(690)
      .map((author) => ({ author, height: 11, attempt: 0, signature: new Uint8Array(64) }));
    const leaves = [...before].slice(0, 5).map((author) => ({ author, height: 11, signature: new Uint8Array(64) }));
    branch.append(entryOn(branch.head, { kind: 'membership', joins, leaves }));
    const changed = branch.head.committee.filter((peer) => !before.has(peer));
    expect(changed.length).toBeGreaterThanOrEqual(5);
    expect(changed.length).toBeLessThanOrEqual(15);
  });

  test('another draw of the committee is led to by an anchor of the last block before it', () => {
    const branch = branchAt(4092);
    const size = { blocksMin: 8, blocksMax: 8, bytesMax: 0 };
    let beginning: Beginning | undefined;
    while (!beginning) {
      branch.append(entryOn(branch.head, {}));
      beginning = branch.beginSegment(size, null);
    }
    expect(beginning.anchors.map(({ entry }) => entry.block.height)).toEqual([4092, 4096, 4100]);
    const committees = branch.heads.map((head) => head.committee);
    expect(new Set(committees).size).toBe(2);
    for (const [i, { height, committee }] of branch.heads.entries()) {
      const next = beginning.anchors.find(({ entry }) => entry.block.height > height);
      const voters = next && branch.heads.find((head) => head.height === next.entry.block.height - 1)!.committee;
      if (next && i > 0) expect(isVouchedFor(committee, voters!, next.entry)).toBe(true);
    }
    expect(beginning.passed).toEqual({ core: committees.at(-1), largest: 200 });
  });

  test('are told one by one where more do not fit', () => {
    const branch = branchAt(10);
    for (let i = 0; i < 2; i++) branch.append(entryOn(branch.head, {}));
    const [anchor] = branch.beginning.anchors as [Anchor];
    const bytes = encodeAnchor(anchor).length + encodeEntry(branch.entries[1]!).length;
    const pages = [0, 1].flatMap((anchors) =>
      [10, bytes - 1, bytes].map((max) => branch.page({ ...WHOLE, anchors }, max)),
    );
    const told = pages.map((page) => [page.anchors.length, page.entries.length, page.more]);
    expect(told).toEqual([
      [1, 0, true],
      [1, 0, true],
      [1, 1, true],
      [0, 1, true],
      [0, 2, false],
      [0, 2, false],
    ]);
  });

  test('fit into an answer at their largest', () => {
    const peer = (i: number): PeerId => `12D3KooW${String(i).padStart(44, 'x')}`;
    const peers = Array.from({ length: LIMITS.changesMax }, (_, i) => peer(i));
    const roster = peers.slice(0, LIMITS.rosterMax);
    const head = {
      roster: roster.map((each) => ({ peer: each, lastRound: 2 ** 40 })),
      places: roster,
      committee: roster,
      cursor: Number.MAX_SAFE_INTEGER,
      tokens: Number.MAX_SAFE_INTEGER,
      unfinalTokens: Number.MAX_SAFE_INTEGER,
      changes: peers.map((each): [string, number] => [each, 2 ** 40]),
    };
    const entry = entryOn(branchAt(10).head, {});
    const rest = LIMITS.gossipBytesMax + 200 * 70;
    expect(encodeAnchor({ head, entry }).length + rest).toBeLessThan(LIMITS.historyBytesMax - 4096);
  });
});

describe('anchors of a small run', () => {
  const signers = Array.from({ length: 100 }, (_, i) => testSigner(`small ${i}`));
  const by = new Map(signers.map((signer) => [signer.self, signer]));
  const genesis = testGenesis(signers[0]!.self);
  const run = runIdOf(genesis);
  const context = { genesis, run, signer: testSigner('x') };

  const signedBy = (peers: readonly PeerId[]) => peers.map((peer) => by.get(peer)!);

  /** What these ask for at a height. */
  function requests(height: number, { joins = [], leaves = [] }: { joins?: number[]; leaves?: number[] }) {
    const sorted = (who: number[]) => who.map((i) => signers[i]!).sort((a, b) => comparePeers(a.self, b.self));
    return {
      joins: sorted(joins).map((signer) => {
        const join = { author: signer.self, height, attempt: 0 };
        return { ...join, signature: signer.sign(joinBytes(run, join)) };
      }),
      leaves: sorted(leaves).map((signer) => {
        const leave = { author: signer.self, height };
        return { ...leave, signature: signer.sign(leaveBytes(run, leave)) };
      }),
    };
  }

  class Story {
    readonly branch = new Branch(context);

    /** A round of all in it, certified. */
    round(change: { joins?: number[]; leaves?: number[] } = {}): void {
      const { head } = this.branch;
      const more = requests(head.height + 1, change);
      this.branch.extend([signedEntry(run, head, signedBy(head.committee), more, signedBy(head.places))]);
    }

    /** A round of a few, who go on without the others. */
    unfinal(members: number[], change: { joins?: number[]; leaves?: number[] }): void {
      const { head } = this.branch;
      const these = members.map((i) => signers[i]!).sort((a, b) => comparePeers(a.self, b.self));
      const more = { ...requests(head.height + 1, change), members: these.map(({ self }) => self) };
      this.branch.extend([signedEntry(run, head, these, more)]);
    }

    chain(anchors: readonly Anchor[], own = firstHead(genesis, run)): AnchorChain {
      const chain = new AnchorChain(context, firstHead(genesis, run), own);
      for (const anchor of anchors) chain.add(anchor, { strict: true });
      return chain;
    }
  }

  test('cannot be made up by one who was among the first three', () => {
    const story = new Story();
    story.round({ joins: [1, 2] });
    story.round({ joins: Array.from({ length: 97 }, (_, i) => i + 3) });
    const { heads, entries, head } = story.branch;
    expect(head.committee).toHaveLength(100);
    const early = { head: headFacts(heads[0]!), entry: entries[0]! };
    expect(story.chain([early]).isProven).toBe(true);
    const forgedBy = (...liars: number[]): Anchor => {
      const all = signedBy(liars.map((i) => signers[i]!.self).sort(comparePeers));
      const roster = all.map(({ self }) => ({ peer: self, lastRound: 900 }));
      const facts = factsOf(roster);
      const at = headBefore(genesis, facts, { height: 1000, previous: run, round: 900 } as Block);
      return { head: facts, entry: signedEntry(run, at, all) };
    };
    expect(story.chain([early, forgedBy(2)]).isProven).toBe(false);
    expect(story.chain([forgedBy(2)]).isProven).toBe(false);
    // that the first two are both liars is more than any rule can stand
    expect(story.chain([early, forgedBy(1, 2)]).isProven).toBe(true);
  });

  test('are good after unfinal rounds, too, in which others came than those who vote', () => {
    const story = new Story();
    story.round({ joins: [1, 2, 3] });
    story.round();
    story.unfinal([0, 1], { joins: [4] });
    expect(() => story.unfinal([0, 1], { leaves: [2] })).toThrow('leaves without a quorum');
    const { head } = story.branch;
    expect(head.committee).not.toEqual(head.roster.map(({ peer }) => peer));
    story.round({ joins: Array.from({ length: 20 }, (_, i) => i + 10) });
    story.round({ leaves: [0, 1, 2, 3, 4] });
    story.round();
    story.round();
    const { anchors } = story.branch.beginSegment({ blocksMin: 4, blocksMax: 4, bytesMax: 0 }, null)!;
    expect(anchors.map((anchor) => anchor.head.committee !== null)).toContain(true);
    for (const own of story.branch.heads) expect(story.chain(anchors, own).isProven).toBe(true);
  });

  test('do not grow in number as guests come and go, as long as the others stay', () => {
    const story = new Story();
    story.round({ joins: [1, 2, 3, 4, 5, 6, 7, 8, 9] });
    const counts: number[] = [];
    for (let guest = 10; guest < 100; guest++) {
      story.round({ joins: [guest] });
      story.round({ leaves: [guest] });
      const beginning = story.branch.beginSegment({ blocksMin: 20, blocksMax: 20, bytesMax: 0 }, null);
      if (!beginning) continue;
      counts.push(beginning.anchors.length);
      story.branch.forget(2);
    }
    expect(counts.length).toBeGreaterThan(5);
    expect(Math.max(...counts)).toBe(2);
  });
});

test('only so many unfinal rounds may follow each other, by their number and the places in their rosters', () => {
  const founder = testSigner('founder');
  const genesis = testGenesis(founder.self);
  const run = runIdOf(genesis);
  const context = { genesis, run, signer: founder };
  const all = new Branch(context);
  const next = (members: PeerId[] | null) => {
    const entry = signedEntry(run, all.head, [founder], { members });
    all.append(entry);
    return entry;
  };
  const entries = [null, [founder.self], [founder.self], null, [founder.self], [founder.self]].map(next);
  const branch = new Branch(context);
  branch.extend(entries);
  expect(branch.heads.map(({ unfinal: { rounds } }) => rounds)).toEqual([0, 0, 1, 2, 0, 1, 2]);
  const fresh = (unfinal: Head['unfinal']): Head => ({ ...branch.head, unfinal });
  const more = next([founder.self]);
  const { unfinalRoundsMax, unfinalPlacesMax } = LIMITS;
  for (const [rounds, places, code] of [
    [unfinalRoundsMax - 1, unfinalPlacesMax - 1, undefined],
    [unfinalRoundsMax, 1, 'E_ENDLESS'],
    [1, unfinalPlacesMax, 'E_ENDLESS'],
  ] as const) {
    const check = () => checkEntry(context, fresh({ rounds, places }), more, undefined);
    if (code) expect(check).toThrow(expect.objectContaining({ code }));
    else expect(check).not.toThrow();
  }
  const certified = signedEntry(run, branch.head, [founder], { members: null });
  expect(() => checkEntry(context, fresh({ rounds: unfinalRoundsMax, places: 1 }), certified, undefined)).not.toThrow();
});

test('a certificate that holds for something else makes an entry void', () => {
  const founder = testSigner('founder');
  const genesis = testGenesis(founder.self);
  const run = runIdOf(genesis);
  const context = { genesis, run, signer: founder };
  const { head } = new Branch(context);
  const check = (members: PeerId[] | null, kind: VoteKind, view: number) => {
    const { block, certificate } = signedEntry(run, head, [founder], { members });
    const signature = founder.sign(voteBytes(run, kind, block.height, view, blockHash(block)));
    return () =>
      checkEntry(
        context,
        head,
        { block, certificate: { ...certificate, kind, view, signatures: [[0, signature]] } },
        undefined,
      );
  };
  expect(check(null, 'finalize', 3)).not.toThrow();
  expect(check([founder.self], 'endorse', 0)).not.toThrow();
  for (const isVoid of [
    check(null, 'notarize', 0),
    check([founder.self], 'finalize', 0),
    check([founder.self], 'endorse', 3),
  ]) {
    expect(isVoid).toThrow('the certificate is for something else');
  }
});
