import { expect, test } from 'vitest';
import { stateAt } from '../../protocol/chain.ts';
import { Core } from '../../protocol/core.ts';
import type { Effect } from '../../protocol/events.ts';
import { runIdOf } from '../../protocol/genesis.ts';
import { type Hash, hashOf } from '../../protocol/hash.ts';
import { Branch, GENESIS } from '../../protocol/history.ts';
import { comparePeers, type PeerId } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { Membership } from '../../protocol/membership.ts';
import { blockHash } from '../../protocol/signing.ts';
import { Sync } from '../../protocol/sync.ts';
import type { Block, Certificate } from '../../protocol/wire.ts';
import { testGenesis } from '../helpers/cluster.ts';
import { WHOLE } from '../helpers/history.ts';
import { testSigner } from '../helpers/signers.ts';

const signer = testSigner('peer 0');
const genesis = testGenesis(signer.self);
const run = runIdOf(genesis);
const peers = [0, 1, 2, 3].map((i) => testSigner(`peer ${i}`).self).sort(comparePeers);
const id = (name: string): Hash => hashOf(new TextEncoder().encode(name));

/** A peer of four that applies rounds, every one of which has one payload, and has its states on disk at once. */
class Follower {
  readonly core = new Core({ genesis, run, signer });
  #rounds = 0;

  constructor() {
    const joins = peers.filter((peer) => peer !== genesis.founder).map((author) => join(author));
    this.#append({ kind: 'membership', joins, members: null });
    this.#save();
  }

  /** @param members null: certified */
  round(members: readonly PeerId[] | null): void {
    const update = { author: peers[0]!, payload: id(`payload ${this.#rounds}`), size: 8, tokens: 8 };
    const updates = [{ ...update, steps: 1, loss: 1, signature: new Uint8Array(64) }];
    this.kept = this.#append({ kind: 'round', updates, members: members && [...members] });
    this.#rounds++;
    this.#save();
  }

  /** what the driver was told to keep when it applied the last round */
  kept = this.core.keepNeeded();

  giveUp(rounds: number): void {
    const { branch } = this.core;
    branch.truncate(branch.entries.length - rounds);
    const { head } = branch;
    this.kept = this.core.keepNeeded();
    this.core.setApplied(branch.entries.length, stateAt(head, { id: snapshotOf(head.round), bytes: 1 }), true);
  }

  get rounds(): number[] {
    return [...this.core.states.values()].map(({ round }) => round).sort((a, b) => a - b);
  }

  #append(block: Pick<Block, 'kind' | 'members'> & Partial<Block>) {
    const { branch } = this.core;
    const { tip, height, round } = branch.head;
    const whole = { updates: [], joins: [], leaves: [], evictions: [], base: run, head: run, ...block };
    branch.append({ block: { ...whole, previous: tip, height: height + 1, round }, certificate });
    return this.core.keepNeeded();
  }

  #save(): void {
    const { branch } = this.core;
    const { head } = branch;
    this.core.setApplied(branch.entries.length, stateAt(head, { id: snapshotOf(head.round), bytes: 1 }), true);
  }
}

const certificate: Certificate = { kind: 'finalize', height: 1, view: 0, block: run, signatures: [] };
const snapshotOf = (round: number): Hash => id(`snapshot ${round}`);
const join = (author: PeerId) => ({ author, height: 1, attempt: 0, signature: new Uint8Array(64) });

test('the newest states are kept, and the last final one', () => {
  const follower = new Follower();
  for (let i = 0; i < 3; i++) follower.round(null);
  for (let i = 0; i < 9; i++) follower.round(peers.slice(0, 3));
  expect(follower.rounds).toEqual([3, 9, 10, 11, 12]);
});

test('of states that were told a while ago those are still told that are here', () => {
  const follower = new Follower();
  for (let i = 0; i < 3; i++) follower.round(null);
  const { core } = follower;
  const told = core.tell(WHOLE).states;
  expect(core.stillHeld(told)).toEqual(told);
  follower.round(null);
  expect(core.stillHeld(told)).toEqual(told.slice(1));
});

test('rounds that will be given up leave what others can follow to: two states, and the payloads after them', () => {
  const follower = new Follower();
  follower.round(null);
  for (let i = 0; i < 5; i++) follower.round(peers.slice(0, 3)); // three of four voters: others follow
  for (let i = 0; i < 20; i++) follower.round(peers.slice(0, 1));
  expect(follower.rounds).toEqual([1, 5, 6, 23, 24, 25, 26]);
  expect(follower.kept.snapshots.toSorted()).toEqual([1, 5, 6].map(snapshotOf).toSorted());
  // from state 5, whose root the next block names, the payload of the sixth round leads to the last that can be followed
  expect(follower.kept.payloads.map(({ payload }) => payload)).toEqual([id('payload 5')]);
  follower.giveUp(20);
  expect(follower.rounds.filter((round) => round < 20)).toEqual([1, 5, 6]);
  expect(follower.rounds.length).toBeLessThanOrEqual(LIMITS.snapshotsKept + 3);
});

test('a peer that begins anew on another history offers only what the driver was told to keep, and the newest', () => {
  const follower = new Follower();
  follower.round(null);
  for (let i = 0; i < 5; i++) follower.round(peers.slice(0, 3));
  const { core } = follower;
  expect(follower.rounds).toEqual([1, 3, 4, 5, 6]);
  core.takeEffects();
  core.branch = new Branch({ genesis, run, signer });
  const sync = new Sync(core, new Membership(core));
  sync.initialize();
  const effect = core.takeEffects().find((each): each is Effect & { type: 'initialize' } => each.type === 'initialize');
  const initial = snapshotOf(0);
  sync.restored({ type: 'restored', snapshot: initial, snapshotBytes: 1, error: null, nowMs: 0 });
  const newest = [4, 5, 6, 0].map(snapshotOf);
  const offered = [...core.states.values()].map(({ snapshot }) => snapshot);
  expect(offered.toSorted()).toEqual([...new Set([...newest, ...effect!.keep.snapshots])].toSorted());
});

test('a pinned block that no quorum has decided on may be overruled, a certified one may not', () => {
  for (const members of [null, peers.slice(0, 3)]) {
    const follower = new Follower();
    follower.round(null);
    const { core } = follower;
    const other = core.branch.fork(core.branch.entries.length);
    follower.round(members);
    core.pin(core.branch.head.tip, []);
    expect(core.pinIsMissing).toBe(false);
    // what a quorum has decided on in its place
    const { block } = core.branch.entries.at(-1)!;
    other.append({ block: { ...block, members: null, updates: [], round: 1 }, certificate });
    expect(core.trusts(other)).toBe(members !== null);
    // but not all that was decided before
    const forged = core.branch.fork(core.branch.entries.length - 2);
    forged.append({ block: { ...block, previous: forged.head.tip, height: 2, round: 0, members: null }, certificate });
    expect(core.trusts(forged)).toBe(false);
  }
});

/** A peer that has helped on a block which follows twelve unfinal rounds, has left these, and hears that it is decided. */
function decidedElsewhere(kind: Block['kind']) {
  const follower = new Follower();
  const { core } = follower;
  follower.round(null);
  for (let i = 0; i < 12; i++) follower.round(peers.slice(0, 3));
  const { head } = core.branch;
  const { block } = core.branch.entries.at(-1)!;
  const place = { previous: head.tip, members: null, round: head.round, base: core.applied!.root };
  const leaves = kind === 'round' ? [] : [{ author: peers[1]!, height: 2, signature: new Uint8Array(64) }];
  const updates = kind === 'round' ? block.updates : [];
  const decision = { block: { ...block, kind, updates, leaves, ...place }, certificate };
  core.open = () => ({ candidates: () => [], supported: () => [decision.block] });
  core.truncate(2);
  for (let i = 0; i < 12; i++) follower.round(peers.slice(0, 2));
  core.takeEffects();
  return { core, head, decision, sync: new Sync(core, new Membership(core)) };
}

test.each(['round', 'membership'] as const)(
  'a branch that a decided %s block follows can be returned to, however long the peer was on another',
  (kind) => {
    const { core, head, decision, sync } = decidedElsewhere(kind);
    expect(core.branch.find(head.tip)).toBe(-1);
    expect(sync.returnTo(decision)).toBe(true);
    expect(core.branch.head.tip).toBe(blockHash(decision.block));
    const restored = core.takeEffects().flatMap((effect) => (effect.type === 'restore' ? effect.block : []));
    expect(restored).toEqual([head.tip]);
    // decided: it is the branch now
    expect(core.branchLeft(head.tip)).toBeUndefined();
  },
);

test('a branch that no block under vote follows is forgotten', () => {
  const follower = new Follower();
  const { core } = follower;
  follower.round(null);
  follower.round(peers.slice(0, 3));
  const { tip } = core.branch.head;
  core.truncate(2);
  expect(core.branchLeft(tip)).toBeUndefined();
});

test('branches that were replaced on the disk are there after a restart, until the next decision', () => {
  const follower = new Follower();
  follower.round(null);
  for (let i = 0; i < 2; i++) follower.round(peers.slice(0, 3));
  const { entries, heads } = follower.core.branch;
  const { block } = entries.at(-1)!;
  const other = { block: { ...block, previous: heads[2]!.tip, round: 1, members: peers.slice(0, 1) }, certificate };
  const core = new Core({ genesis, run, signer });
  core.resume([{ ...GENESIS, entries: [...entries, other] }], []);
  const { tip } = heads[4]!;
  expect(core.branch.find(tip)).toBe(-1);
  expect(core.branchLeft(tip)?.head.tip).toBe(tip);
  core.append({ block: { ...other.block, previous: core.branch.head.tip, members: null, round: 2 }, certificate });
  expect(core.branchLeft(tip)).toBeUndefined();
});

test('a round that was given up is followed with nobody for some time, or until somebody comes', () => {
  const follower = new Follower();
  const { core } = follower;
  follower.round(null);
  const before = core.branch.entries.length;
  follower.round([peers[1]!]);
  const told = core.branch.fork(core.branch.entries.length);
  core.giveUp(before, 1000);
  expect(core.branch.entries).toHaveLength(before);
  expect([core.isLost(told), core.isLost(core.branch)]).toEqual([true, false]);
  core.lookAgain();
  expect(core.isLost(told)).toBe(false);
  for (const forMs of [1000, 2000]) {
    core.branch = told.fork(told.entries.length);
    core.giveUp(before, 1000);
    core.nowMs += forMs - 1;
    expect(core.isLost(told)).toBe(true);
    core.nowMs++;
    expect(core.isLost(told)).toBe(false);
  }
});

test('who is told of one block more, and gets there by itself, is as far as the others, and may ask to be let in', () => {
  const follower = new Follower();
  const { core } = follower;
  const sync = new Sync(core, new Membership(core));
  const { height, round } = core.branch.head;
  const standing = { height: height + 1, unfinalTokens: 0, round: round + 1, tip: id('the next block') };
  sync.onStatus({ type: 'status', run, author: peers[1]!, ...standing, signature: new Uint8Array(64) });
  sync.progress();
  expect(sync.caughtUp).toBe(false);
  follower.round(null);
  sync.progress();
  expect(sync.caughtUp).toBe(true);
  expect(core.takeEffects().map(({ type }) => type)).not.toContain('request-history');
});
