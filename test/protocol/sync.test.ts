import { expect, test, vi } from 'vitest';
import { headFacts, rootOf, stateAt } from '../../protocol/chain.ts';
import type { Effect, Event } from '../../protocol/events.ts';
import { type Hash, hashOf } from '../../protocol/hash.ts';
import { type Branch, branchFromLog, GENESIS } from '../../protocol/history.ts';
import { comparePeers, type PeerId } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import type { History, Message } from '../../protocol/messages.ts';
import { blockHash, statusBytes } from '../../protocol/signing.ts';
import type { AgreedState, Entry } from '../../protocol/wire.ts';
import { Cluster, type TestPeer } from '../helpers/cluster.ts';
import { signedEntry, soloEntry, WHOLE } from '../helpers/history.ts';

/** A member that answers as it likes. */
class Teller {
  readonly cluster = new Cluster(91, 4, { waitFor: 4 });
  readonly target: TestPeer;
  readonly liar: TestPeer;
  readonly branch: Branch;
  readonly #base: Hash;

  constructor() {
    const { cluster } = this;
    for (const peer of cluster.peers) peer.start();
    expect(cluster.runUntil(() => cluster.peers.every((peer) => peer.lastRound >= 2), 60_000)).toBe(true);
    [this.target, , , this.liar] = cluster.peers as [TestPeer, TestPeer, TestPeer, TestPeer];
    const { entries } = this.target.machine!.history(WHOLE);
    const context = { genesis: cluster.genesis, run: this.run, signer: this.liar.signer };
    this.branch = branchFromLog(context, [{ ...GENESIS, entries }]);
    this.#base = this.target.rounds.at(-1)!.root;
  }

  get run(): Hash {
    return this.target.machine!.run;
  }

  /** The liar goes on alone. */
  rounds(count: number, base = this.#base): Entry[] {
    return Array.from({ length: count }, () => {
      const entry = soloEntry(this.run, this.branch.head, this.liar.signer, base);
      this.branch.append(entry);
      return entry;
    });
  }

  /** A round that a quorum has decided on, all of whom sign. */
  decided(): Entry {
    const signers = new Map(this.cluster.peers.map(({ id, signer }) => [id, signer]));
    const voters = this.branch.head.committee.map((peer) => signers.get(peer)!);
    const entry = signedEntry(this.run, this.branch.head, voters, { base: this.#base });
    this.branch.append(entry);
    return entry;
  }

  /** @returns what the target makes of it, but for when it wants to be woken */
  gives(event: Event): Effect[] {
    return this.target.machine!.step(event).filter(({ type }) => type !== 'wake');
  }

  /** The liar alone stays in the target's sight. */
  othersGo(): TestPeer[] {
    const others = this.cluster.peers.filter((peer) => peer !== this.target && peer !== this.liar);
    for (const { id } of others) this.gives({ type: 'peer', nowMs: this.cluster.nowMs, peer: id, up: false });
    return others;
  }

  /** A peer says that it is far ahead. */
  hears({ signer }: TestPeer): Effect[] {
    const [author, tip] = [signer.self, '0'.repeat(64)];
    const fields = { author, height: this.branch.head.height + 9, unfinalTokens: 0, round: 1000, tip };
    const signature = signer.sign(statusBytes(this.run, fields));
    const message: Message = { type: 'status', run: this.run, ...fields, signature };
    return this.gives({ type: 'messages', nowMs: this.cluster.nowMs, messages: [message], from: [author] });
  }

  answers(peer: PeerId, page: Partial<History>): Effect[] {
    const history = { run: this.run, anchors: [], entries: [], more: false, states: [], ...page };
    return this.gives({ type: 'history', nowMs: this.cluster.nowMs, peer, history });
  }
}

function typesOf(effects: readonly Effect[]): string[] {
  return effects.map((effect) => (effect.type === 'report' ? JSON.stringify(effect.report) : effect.type));
}

test('who takes too long for its whole history is not waited for, though each page comes in time', () => {
  const teller = new Teller();
  const liar = teller.liar.id;
  const told = () => typesOf(teller.answers(liar, { entries: teller.rounds(1), more: true }));
  const asks = ['request-history'];
  expect(typesOf(teller.hears(teller.liar))).toEqual(asks);
  for (let page = 0; page < 49; page++) {
    teller.cluster.nowMs += 12_000;
    expect(told()).toEqual(asks);
  }
  teller.cluster.nowMs += 12_000;
  expect(told()).toEqual([expect.stringContaining('W_ENDLESS')]);
  expect(typesOf(teller.hears(teller.liar))).toEqual([]);
  teller.cluster.nowMs += 60_000;
  expect(typesOf(teller.hears(teller.liar))).toEqual(asks);
});

test.each([false, true])(
  'who answered nothing is left alone for as long as that took, or not for long where it is alone: %s',
  (alone) => {
    const teller = new Teller();
    const { cluster, liar } = teller;
    const others = cluster.peers.filter((peer) => peer !== teller.target && peer !== liar);
    const { nowMs } = cluster;
    if (alone) for (const { id } of others) teller.gives({ type: 'peer', nowMs, peer: id, up: false });
    expect(typesOf(teller.hears(liar))).toContain('request-history');
    cluster.nowMs += 30_000;
    teller.gives({ type: 'history', nowMs: cluster.nowMs, peer: liar.id, history: null });
    cluster.nowMs += 4000;
    expect(typesOf(teller.hears(liar))).not.toContain('request-history');
    cluster.nowMs += 2000;
    const isAsked = typesOf(teller.hears(liar)).includes('request-history');
    expect(isAsked).toBe(alone);
    cluster.nowMs += 25_000;
    if (!alone) expect(typesOf(teller.hears(liar))).toContain('request-history');
  },
);

test('who tells of rounds without end that no quorum has seen is listened to so long, and then others are asked', () => {
  const teller = new Teller();
  const liar = teller.liar.id;
  expect(typesOf(teller.hears(teller.liar))).toEqual(['request-history']);
  const page = LIMITS.historyEntriesMax;
  for (let told = page; told <= 4096; told += page) {
    expect(typesOf(teller.answers(liar, { entries: teller.rounds(page), more: true }))).toEqual(['request-history']);
  }
  const last = teller.answers(liar, { entries: teller.rounds(1), more: true });
  expect(typesOf(last)).toEqual([expect.stringContaining('W_ENDLESS')]);
  expect(typesOf(teller.hears(teller.liar))).toEqual([]);
  expect(typesOf(teller.hears(teller.cluster.peers[1]!))).toEqual(['request-history']);
});

test('rounds of one member alone are not followed, whether the last page has them or an empty one comes after', () => {
  for (const empty of [false, true]) {
    const teller = new Teller();
    teller.hears(teller.liar);
    const effects = teller.answers(teller.liar.id, { entries: teller.rounds(2), more: empty });
    if (empty) effects.push(...teller.answers(teller.liar.id, {}));
    expect(typesOf(effects)).not.toContain('append');
  }
});

test('rounds of one member alone do not take from what was decided before them', () => {
  const teller = new Teller();
  teller.hears(teller.liar);
  const decided = teller.decided();
  const effects = teller.answers(teller.liar.id, { entries: [decided, ...teller.rounds(2)] });
  const appended = effects.flatMap((effect) => (effect.type === 'append' ? [effect.entry] : []));
  expect(appended).toEqual([decided]);
});

test('another state than that of the last decided block, which one member alone names, is not taken up', () => {
  const teller = new Teller();
  const { cluster, target, liar } = teller;
  // nobody else is in sight
  teller.othersGo();
  const { head } = teller.branch;
  const answer = (base: Hash, states: AgreedState[]) => {
    teller.hears(liar);
    const entries = [soloEntry(teller.run, head, liar.signer, base)];
    return typesOf(teller.answers(liar.id, { entries, states }));
  };
  const invented = stateAt(head, { id: hashOf(Uint8Array.of(1)), bytes: 1 });
  const effects = answer(rootOf(invented), [invented]);
  expect(effects).toContainEqual(expect.stringContaining('W_NO_STATE'));
  expect(effects).not.toContain('restore');
  cluster.nowMs += 61_000;
  expect(answer(target.rounds.at(-1)!.root, [])).toContain('append');
});

test('a state past what others can follow is waited for no longer, once they are there again', () => {
  const teller = new Teller();
  const { cluster, target, liar, branch } = teller;
  const { nowMs } = cluster;
  const others = teller.othersGo();
  const { round, tip } = branch.head;
  const [first] = teller.rounds(1) as [Entry];
  const invented = stateAt(branch.head, { id: hashOf(Uint8Array.of(1)), bytes: 1 });
  const far = teller.rounds(LIMITS.payloadRoundsKept, rootOf(invented));
  teller.hears(liar);
  expect(typesOf(teller.answers(liar.id, { entries: [first, ...far], states: [invented] }))).toContain('restore');
  // not again with each of them
  const effects = others.flatMap(({ id }) => teller.gives({ type: 'peer', nowMs, peer: id, up: true }));
  expect(typesOf(effects).filter((type) => type === 'abandon')).toHaveLength(1);
  const { snapshot, snapshotBytes } = invented;
  const back = teller.gives({ type: 'restored', nowMs, snapshot, snapshotBytes, error: 'E_ABORTED' });
  expect(back).toContainEqual(expect.objectContaining({ type: 'restore', block: tip }));
  expect(back.flatMap((each) => (each.type === 'restore' ? [each.state.round] : []))).toEqual([round]);
  expect(typesOf(back)).not.toContainEqual(expect.stringContaining('E_ABORTED'));
  expect(target.machine!.follows(blockHash(first.block))).toBe(false);
});

test('a member whose state is still on its way asks to be let go like any other', () => {
  const teller = new Teller();
  const { cluster, target, liar, branch } = teller;
  const { nowMs } = cluster;
  teller.othersGo();
  const certified = branch.head;
  const [first] = teller.rounds(1) as [Entry];
  const state = stateAt(branch.head, { id: hashOf(Uint8Array.of(1)), bytes: 1 });
  const far = teller.rounds(LIMITS.payloadRoundsKept, rootOf(state));
  teller.hears(liar);
  expect(typesOf(teller.answers(liar.id, { entries: [first, ...far], states: [state] }))).toContain('restore');
  const effects = teller.gives({ type: 'leave', nowMs });
  const said = effects.flatMap((each) => (each.type === 'broadcast' ? [each.message.type] : []));
  expect(said).toContain('leave');
  const done = expect.objectContaining({ report: { kind: 'done', reason: 'left' } });
  expect(effects).not.toContainEqual(done);
  // the others let it go, though it cannot take that up yet
  const { leave } = effects.flatMap((each) => {
    return each.type === 'broadcast' && each.message.type === 'leave' ? [each.message] : [];
  })[0]!;
  const base = target.rounds.at(-1)!.root;
  const voters = certified.committee.map((voter) => cluster.peers.find(({ id }) => id === voter)!.signer);
  const change = { kind: 'membership' as const, updates: [], leaves: [leave], base };
  const { block, certificate } = signedEntry(teller.run, certified, voters, change);
  const message: Message = { type: 'certificate', run: teller.run, certificate, block };
  teller.gives({ type: 'messages', nowMs, messages: [message], from: [liar.id] });
  expect(teller.gives({ type: 'wake', nowMs: nowMs + 600 })).toContainEqual(done);
});

test('nor is another state of the last round that others can follow, where what that names cannot be had', () => {
  const teller = new Teller();
  const { cluster, target, liar, branch } = teller;
  const [, another] = cluster.peers as [TestPeer, TestPeer];
  teller.othersGo();
  const two = [liar, another].sort((a, b) => comparePeers(a.id, b.id));
  const change = { base: target.rounds.at(-1)!.root, members: two.map(({ id }) => id) };
  const signers = two.map(({ signer }) => signer);
  const credible = signedEntry(teller.run, branch.head, signers, change);
  branch.append(credible);
  const invented = stateAt(branch.head, { id: hashOf(Uint8Array.of(1)), bytes: 1 });
  const alone = soloEntry(teller.run, branch.head, liar.signer, rootOf(invented));
  teller.hears(liar);
  const states = [invented];
  const followed = teller.answers(liar.id, { entries: [credible, alone], states });
  expect(typesOf(followed)).toContain('append');
  const { nowMs } = cluster;
  const effects = followed.flatMap((effect) => {
    if (effect.type !== 'fetch') return [];
    return teller.gives({ type: 'payload', nowMs, update: effect.update, error: 'E_BLOB_UNAVAILABLE' });
  });
  expect(typesOf(effects)).toContain('request-history');
  expect(typesOf(teller.answers(liar.id, { states }))).not.toContain('restore');
});

test('where the state after unfinal rounds is gone with those who made them, a peer goes back to its own', () => {
  const teller = new Teller();
  const { cluster, target, liar: gone, branch } = teller;
  teller.othersGo();
  const own = { round: branch.head.round, root: target.rounds.at(-1)!.root };
  const states: AgreedState[] = [];
  const entries = Array.from({ length: LIMITS.payloadRoundsKept + 1 }, (_, i) => {
    const last = states.at(-1);
    const entry = soloEntry(teller.run, branch.head, gone.signer, last ? rootOf(last) : own.root);
    branch.append(entry);
    states.push(stateAt(branch.head, { id: hashOf(Uint8Array.of(i)), bytes: 1 }));
    return entry;
  });
  teller.hears(gone);
  const restored = (effects: Effect[]) => effects.flatMap((each) => (each.type === 'restore' ? [each.state] : []));
  const told = states.at(-2)!;
  expect(restored(teller.answers(gone.id, { entries, states: [told] }))).toEqual([told]);
  const { snapshot, snapshotBytes } = told;
  const error = 'E_BLOB_UNAVAILABLE';
  teller.gives({ type: 'peer', nowMs: cluster.nowMs, peer: gone.id, up: false });
  expect(restored(teller.gives({ type: 'restored', nowMs: cluster.nowMs, snapshot, snapshotBytes, error }))).toEqual(
    [],
  );
  cluster.nowMs += 2 * cluster.genesis.timing.quorumWaitMs! - 1;
  expect(restored(teller.gives({ type: 'wake', nowMs: cluster.nowMs }))).toEqual([]);
  cluster.nowMs++;
  const effects = teller.gives({ type: 'wake', nowMs: cluster.nowMs });
  const [back] = restored(effects);
  expect({ round: back?.round, root: back && rootOf(back) }).toEqual(own);
  // from there nobody goes on by payloads
  expect(typesOf(effects)).toContainEqual(expect.stringContaining('W_ROUND_LOST'));
  expect(target.machine!.follows(entries[0]!.block.previous)).toBe(true);
  expect(target.machine!.follows(blockHash(entries[0]!.block))).toBe(false);
});

test('who tells again what is known here is not listened to: to check it takes seconds where it is long', () => {
  const teller = new Teller();
  teller.hears(teller.liar);
  const { entries } = teller.target.machine!.history(WHOLE);
  const verified = vi.spyOn(teller.target.signer, 'verify');
  const told = typesOf(teller.answers(teller.liar.id, { entries: entries.slice(1), more: true }));
  expect(told).toEqual([expect.stringContaining('begins before what was asked for')]);
  expect(verified).not.toHaveBeenCalled();
});

test('who adds nothing to what it has told is not asked to go on', () => {
  const teller = new Teller();
  teller.hears(teller.liar);
  const entry = teller.decided();
  expect(typesOf(teller.answers(teller.liar.id, { entries: [entry], more: true }))).toEqual(['request-history']);
  const anchor = { head: headFacts(teller.branch.heads[1]!), entry: teller.branch.entries[1]! };
  expect(typesOf(teller.answers(teller.liar.id, { anchors: [anchor], more: true }))).not.toContain('request-history');
  expect(typesOf(teller.hears(teller.cluster.peers[1]!))).toEqual(['request-history']);
});
