import { describe, expect, test } from 'vitest';
import { AnchorChain, isVouchedFor } from '../../protocol/anchors.ts';
import { firstHead, type Head, headAfter, headBefore } from '../../protocol/chain.ts';
import type { Effect } from '../../protocol/events.ts';
import type { Hash } from '../../protocol/hash.ts';
import { branchFromLog, SEGMENTS_KEPT } from '../../protocol/history.ts';
import type { PeerId } from '../../protocol/identity.ts';
import { Machine } from '../../protocol/machine.ts';
import type { History } from '../../protocol/messages.ts';
import { blockHash, statusBytes } from '../../protocol/signing.ts';
import type { Anchor, Block, Entry } from '../../protocol/wire.ts';
import { Cluster, type TestPeer } from '../helpers/cluster.ts';
import { factsOf, signedEntry, WHOLE } from '../helpers/history.ts';
import { testSigner } from '../helpers/signers.ts';

const BLOCKS = 4;

/** Peers that keep a few blocks, and all blocks that there were. */
class Recorded {
  readonly cluster: Cluster;
  readonly entries = new Map<number, Entry>();

  constructor(seed: number, count: number, waitFor: number, blocks = BLOCKS) {
    this.cluster = new Cluster(seed, count, { waitFor });
    this.cluster.segmentSize = { blocksMin: blocks, blocksMax: blocks, bytesMax: 0 };
    for (const peer of this.cluster.peers) {
      peer.watcher = {
        signer: peer.signer,
        step: (_, effects) => {
          for (const effect of effects) {
            if (effect.type !== 'append' || effect.entry.block.members) continue;
            this.entries.set(effect.entry.block.height, effect.entry);
          }
        },
      };
    }
  }

  peer(index: number): TestPeer {
    return this.cluster.peers[index]!;
  }

  get context() {
    const { genesis } = this.cluster;
    return { genesis, run: this.peer(0).machine!.run, signer: this.peer(0).signer };
  }

  start(...indices: number[]): void {
    for (const index of indices) this.peer(index).start();
  }

  /** Until everybody here has come so many rounds further, and contributes. */
  run(rounds: number, ...indices: number[]): void {
    const peers = indices.map((index) => this.peer(index));
    const target = Math.max(...peers.map(({ lastRound }) => lastRound)) + rounds;
    const there = ({ rounds: done, lastRound, id }: TestPeer): boolean => {
      return lastRound >= target && peers[0]!.rounds.at(-1)!.contributors.includes(id) && done.at(-1)!.final;
    };
    expect(this.cluster.runUntil(() => peers.every(there), 600_000)).toBe(true);
    for (const roots of this.cluster.finalRoots().values()) expect(roots.size).toBe(1);
  }

  /** Where the branch stands before a block, on the way from genesis. */
  headBefore(height: number): Head {
    let head = firstHead(this.cluster.genesis, this.context.run);
    for (let at = 1; at < height; at++) head = headAfter(this.cluster.genesis, head, this.entries.get(at)!.block);
    return head;
  }

  headAt({ head, entry }: Anchor): Head {
    return headBefore(this.cluster.genesis, head, entry.block);
  }

  chain(anchors: readonly Anchor[], own = firstHead(this.cluster.genesis, this.context.run)): AnchorChain {
    const chain = new AnchorChain(this.context, firstHead(this.cluster.genesis, this.context.run), own);
    for (const anchor of anchors) chain.add(anchor, { strict: false });
    return chain;
  }
}

/** A newcomer that is driven by hand. */
class Listener {
  readonly #machine: Machine;

  constructor(swarm: Recorded, trustBlock?: Hash) {
    this.#machine = new Machine({ signer: testSigner('newcomer') }, { genesis: swarm.cluster.genesis });
    this.#machine.step({ type: 'start', nowMs: 0, restart: null, trustBlock });
  }

  /** @returns what it makes of an answer, but for when it wants to be woken */
  hears(peer: PeerId, history: History): Effect[] {
    const asked = this.#machine.step({ type: 'peer', nowMs: 1, peer, up: true });
    expect(asked).toContainEqual({ type: 'request-history', peer, request: WHOLE });
    return this.#machine.step({ type: 'history', nowMs: 2, peer, history }).filter(({ type }) => type !== 'wake');
  }
}

function anchorsOf({ machine }: TestPeer): Anchor[] {
  return machine!.history(WHOLE).anchors;
}

describe('a history that begins in its middle', () => {
  test('is of bounded length, on the disk and in what is told, and stands where the whole one does', () => {
    const swarm = new Recorded(1, 4, 4);
    swarm.start(0, 1, 2, 3);
    swarm.run(40, 0, 1, 2, 3);
    for (const peer of swarm.cluster.peers) {
      expect(peer.segments).toHaveLength(SEGMENTS_KEPT);
      const { entries, anchors } = peer.machine!.history(WHOLE);
      expect(entries.length).toBeLessThan((SEGMENTS_KEPT + 1) * BLOCKS);
      expect(anchors.length).toBeGreaterThan(0);
      expect(anchors.length).toBeLessThan(4);
      const last = anchors.at(-1)!;
      expect(swarm.headAt(last)).toEqual(swarm.headBefore(last.entry.block.height));
      const branch = branchFromLog(swarm.context, peer.segments);
      expect(branch.head).toEqual(swarm.headBefore(branch.head.height + 1));
    }
  });

  test('is gone on with after a restart', () => {
    const swarm = new Recorded(2, 3, 3);
    swarm.start(0, 1, 2);
    swarm.run(20, 0, 1, 2);
    for (const peer of swarm.cluster.peers) peer.kill();
    swarm.start(0, 1, 2);
    swarm.run(20, 0, 1, 2);
    expect(swarm.peer(0).segments).toHaveLength(SEGMENTS_KEPT);
  });

  test('is taken up by a joiner that knows the founder alone, and by one that was away for longer than it goes back', () => {
    const swarm = new Recorded(3, 5, 4);
    swarm.start(0, 1, 2, 3);
    swarm.run(6, 0, 1, 2, 3);
    swarm.peer(3).kill();
    swarm.run(30, 0, 1, 2);
    swarm.start(3);
    swarm.run(3, 0, 1, 2, 3);
    swarm.start(4);
    swarm.run(3, 0, 1, 2, 3, 4);
    for (const index of [3, 4]) expect(swarm.peer(index).reports.map(({ kind }) => kind)).toContain('synced');
    const warnings = swarm.cluster.peers.flatMap(({ reports }) => reports.filter(({ kind }) => kind === 'warning'));
    expect(warnings).toEqual([]);
  });

  test('is proven where nobody is left of those who were there: the anchors lead from one committee to the next', () => {
    const count = 7;
    const swarm = new Recorded(4, count + 1, 3);
    swarm.start(0, 1, 2);
    swarm.run(6, 0, 1, 2);
    for (let i = 3; i < count; i++) {
      swarm.start(i);
      swarm.run(3, i - 1, i - 2, i);
      swarm.peer(i - 3).leave();
      swarm.run(7, i - 1, i - 2, i);
    }
    const teller = swarm.peer(count - 1);
    const told = teller.machine!.history(WHOLE);
    expect(told.anchors.length).toBeGreaterThan(1);
    expect(swarm.chain(told.anchors).isProven).toBe(true);
    expect(swarm.chain(told.anchors.slice(-1)).isProven).toBe(false);
    const block = blockHash(told.entries.at(-1)!.block);
    const outcomes = [undefined, block].map((trustBlock) => {
      const newcomer = new Listener(swarm, trustBlock);
      const effects = newcomer.hears(teller.id, { ...told, anchors: told.anchors.slice(-1), more: false });
      return effects.map((effect) => (effect.type === 'report' ? JSON.stringify(effect.report) : effect.type));
    });
    expect(outcomes[0]).toEqual([expect.stringContaining('W_UNTRUSTED')]);
    expect(outcomes[1]).toContain('restore');
    // nor is it listened to any further
    const more = new Listener(swarm).hears(teller.id, {
      ...told,
      anchors: told.anchors.slice(-1),
      entries: [],
      more: true,
    });
    expect(more.map(({ type }) => type)).toEqual(['report']);
    swarm.start(count);
    swarm.run(3, count, count - 1, count - 2, count - 3);
  });
});

describe('who was away for longer than the history goes back', () => {
  test('finds the way back though most came and went meanwhile, or just before', () => {
    const swarm = new Recorded(6, 10, 4, 24);
    swarm.start(0, 1, 2, 3);
    swarm.run(2, 0, 1, 2, 3);
    const guests = [4, 5, 6, 7, 8, 9];
    swarm.start(...guests);
    swarm.run(3, 0, 1, 2, 3, ...guests);
    swarm.peer(3).kill();
    const away = swarm.headBefore(Math.max(...swarm.entries.keys()) + 1);
    expect(away.committee).toHaveLength(10);
    for (const guest of guests) swarm.peer(guest).leave();
    swarm.run(80, 0, 1, 2);
    const anchors = anchorsOf(swarm.peer(0));
    expect(swarm.chain(anchors, away).isProven).toBe(true);
    // the last alone proves it to the founder's friends, not to who knows the guests
    expect(swarm.chain(anchors.slice(-1)).isProven).toBe(true);
    expect(swarm.chain(anchors.slice(-1), away).isProven).toBe(false);
    swarm.start(3);
    swarm.run(3, 0, 1, 2, 3);
  });

  test('finds it though it went on alone, and the others began another segment', () => {
    const swarm = new Recorded(5, 7, 4);
    swarm.start(0, 1, 2, 3);
    swarm.run(3, 0, 1, 2, 3);
    swarm.cluster.partition([[0, 1, 2, 4, 5, 6], [3]]);
    swarm.start(4, 5, 6);
    swarm.run(3, 0, 1, 2, 4, 5, 6);
    for (const index of [1, 2]) swarm.peer(index).leave();
    swarm.run(30, 0, 4, 5, 6);
    expect(swarm.peer(3).rounds.filter(({ final }) => !final).length).toBeGreaterThan(10);
    const alone = swarm.peer(3).machine!.history(WHOLE).entries.length;
    const { fromHeight, ...page } = { ...WHOLE, fromHeight: 3 };
    const told = [0, alone].map((skip) => swarm.peer(0).machine!.history({ ...page, fromHeight, skip }).entries.length);
    expect(told[0]).toBeGreaterThan(0);
    expect(told[1]).toBe(told[0]);
    swarm.cluster.partition(undefined);
    swarm.run(3, 0, 3, 4, 5, 6);
  });

  test('finds it with the block to trust, too, when that has long been forgotten', () => {
    const swarm = new Recorded(7, 4, 3);
    swarm.start(0, 1, 2);
    swarm.run(6, 0, 1, 2);
    const newcomer = swarm.peer(3);
    const pinned = swarm.peer(0).machine!.history(WHOLE).entries.at(-1)!.block.previous;
    newcomer.start(pinned);
    swarm.run(14, 0, 1, 2, 3);
    expect(newcomer.segments.map((segment) => segment.pinned)).toEqual([pinned, pinned]);
    // cut off for a little while, and for longer than others keep
    for (const rounds of [2, 14]) {
      swarm.cluster.partition([[0, 1, 2], [3]]);
      swarm.run(rounds, 0, 1, 2);
      swarm.cluster.partition(undefined);
      swarm.run(3, 0, 1, 2, 3);
    }
    // stopped, and its user leaves the block out for a while
    for (const [again, rounds] of [
      [pinned, 3],
      [undefined, 14],
      [pinned, 3],
    ] as const) {
      newcomer.kill();
      swarm.run(14, 0, 1, 2);
      newcomer.start(again);
      swarm.run(rounds, 0, 1, 2, 3);
    }
    expect(newcomer.reports.filter((report) => report.kind === 'warning' && report.code === 'W_UNTRUSTED')).toEqual([]);
  });
});

describe('anchors that are told', () => {
  const swarm = new Recorded(5, 5, 4);
  swarm.start(0, 1, 2, 3);
  swarm.run(20, 0, 1, 2, 3);
  const anchors = anchorsOf(swarm.peer(1));
  const last = anchors.at(-1)!;

  test('are proven by the committee before', () => expect(swarm.chain(anchors).isProven).toBe(true));

  test('need most of that committee among those who signed', () => {
    const head = swarm.headAt(last);
    const { signatures } = last.entry.certificate;
    const signers = head.committee.filter((_, place) => signatures.some(([by]) => by === place));
    const isProven = (...committee: string[]): boolean => swarm.chain(anchors, { ...head, committee }).isProven;
    const [one, two, three] = signers as [string, string, string];
    expect(isProven('a', 'b', one, two)).toBe(false);
    expect(isProven('a', one, two, three)).toBe(true);
    expect(isProven('a', 'b', one, two, three)).toBe(true);
    expect(isProven('a', one)).toBe(false);
  });

  test.each([
    ['a roster without somebody', { roster: last.head.roster.slice(1) }],
    [
      'somebody who never came to the round',
      { places: [...last.head.roster.map(({ peer }) => peer), `${last.head.roster[0]!.peer}x`] },
    ],
    ['others who train', { places: [last.head.roster[0]!.peer] }],
    ['others who vote', { committee: [last.head.roster[0]!.peer] }],
    ['those who vote, where the roster says it', { committee: last.head.roster.map(({ peer }) => peer) }],
    ['those who train, where the roster says it', { places: last.head.roster.map(({ peer }) => peer) }],
    ['tokens that nobody trained on', { tokens: last.head.tokens + 1 }],
    ['other data', { cursor: last.head.cursor + 1 }],
    ['a change that was none', { changes: [[last.head.roster[0]!.peer, 3] as [string, number]] }],
    ['unfinal rounds before it', { unfinalTokens: 1 }],
  ])('are refused with %s', (_, change) => {
    const forged = [...anchors.slice(0, -1), { ...last, head: { ...last.head, ...change } }];
    expect(() => swarm.chain(forged)).toThrow(/refused/);
  });

  test('are refused out of order, and with a certificate that is too small', () => {
    expect(() => swarm.chain([...anchors, last])).toThrow('not after the one before');
    const { block, certificate } = last.entry;
    const few = { ...certificate, signatures: certificate.signatures.slice(1) };
    expect(() => swarm.chain([{ ...last, entry: { block, certificate: few } }])).toThrow('lacks valid signatures');
  });

  test('count nobody twice who signed, however many places a made-up roster gives one', () => {
    const head = swarm.headAt(last);
    const [faulty] = head.committee as [string];
    const signatures = [0, 1, 2].map((place): [number, Uint8Array] => [place, new Uint8Array(64)]);
    const entry = { ...last.entry, certificate: { ...last.entry.certificate, signatures } };
    expect(isVouchedFor(head.committee, head.committee, entry)).toBe(true);
    expect(isVouchedFor(head.committee, [faulty, faulty, faulty], entry)).toBe(false);
  });

  test('are kept and told on only where they prove something', () => {
    const teller = swarm.peer(1);
    const told = teller.machine!.history(WHOLE);
    const { genesis } = swarm.cluster;
    const liar = testSigner('liar');
    const junk = [1, 2, 3].map((height): Anchor => {
      const roster = [{ peer: liar.self, lastRound: 0 }];
      const head = factsOf(roster);
      const at = headBefore(genesis, head, { height, previous: swarm.context.run, round: height } as Block);
      return { head, entry: signedEntry(swarm.context.run, at, [liar]) };
    });
    const newcomer = new Listener(swarm, told.entries.at(-1)!.block.previous);
    const effects = newcomer.hears(teller.id, { ...told, anchors: [...junk, last] });
    const [kept] = effects.flatMap((effect) => (effect.type === 'append' && effect.segment ? [effect.segment] : []));
    expect(kept!.anchors).toEqual([last]);
  });

  test('are refused where they are not needed: a history must not begin beside the one that is known', () => {
    const [peer, teller] = [swarm.peer(2), swarm.peer(1)];
    const nowMs = swarm.cluster.nowMs;
    const told = teller.machine!.history(WHOLE);
    peer.machine!.step({ type: 'peer', nowMs, peer: teller.id, up: false });
    const tip = '0'.repeat(64);
    const fields = { author: teller.id, height: 1000, unfinalTokens: 0, round: 1000, tip };
    const { run } = peer.machine!;
    const signature = teller.signer.sign(statusBytes(run, fields));
    const status = { type: 'status', run, ...fields, signature } as const;
    const asked = peer.machine!.step({ type: 'messages', nowMs, messages: [status], from: [teller.id] });
    expect(asked.map(({ type }) => type)).toContain('request-history');
    const effects = peer.machine!.step({ type: 'history', nowMs, peer: teller.id, history: told });
    const [warning] = effects.flatMap((effect) => (effect.type === 'report' ? effect.report : []));
    expect(warning).toMatchObject({ kind: 'warning', message: expect.stringContaining('begins where ours is known') });
  });

  test('are taken up with a block that is known, too', () => {
    const [newcomer, teller] = [swarm.peer(4), swarm.peer(0)];
    const { entries } = teller.machine!.history(WHOLE);
    newcomer.start(entries.at(-1)!.block.previous);
    swarm.run(3, 0, 1, 2, 3, 4);
    expect(newcomer.reports.filter(({ kind }) => kind === 'warning')).toEqual([]);
  });
});
