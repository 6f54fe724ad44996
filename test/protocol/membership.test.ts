import { expect, test } from 'vitest';
import { Agreement } from '../../protocol/agreement.ts';
import { Core } from '../../protocol/core.ts';
import { runIdOf } from '../../protocol/genesis.ts';
import type { Hash } from '../../protocol/hash.ts';
import { Branch } from '../../protocol/history.ts';
import { comparePeers, type Signer } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { Membership } from '../../protocol/membership.ts';
import type { Vote } from '../../protocol/messages.ts';
import { Post, type PostComponents } from '../../protocol/post.ts';
import { joinBytes, leaveBytes, voteBytes } from '../../protocol/signing.ts';
import type { Join } from '../../protocol/wire.ts';
import { testGenesis } from '../helpers/cluster.ts';
import { factsOf, signedEntry } from '../helpers/history.ts';
import { testSigner } from '../helpers/signers.ts';

const all = ['a', 'b', 'c', 'd'].map(testSigner).sort((a, b) => comparePeers(a.self, b.self));
const [self, gone, relay] = all as [Signer, Signer, Signer];

function memberOfFour() {
  const genesis = testGenesis(self.self);
  const run = runIdOf(genesis);
  const core = new Core({ genesis, run, signer: self });
  const facts = factsOf(all.map((each) => ({ peer: each.self, lastRound: 11 })));
  const entry = signedEntry(run, { ...core.branch.head, height: 11, round: 11 }, all);
  core.branch = new Branch(core.context, { anchors: [{ head: facts, entry }], passed: null, pinned: null });
  const membership = new Membership(core);
  return { core, membership, run };
}

test('what others hand on again does not bring back who is gone', () => {
  const { core, membership, run } = memberOfFour();
  const { height, committee } = core.branch.head;
  const agreement = new Agreement({ run, seed: 1, height: height + 1, committee, signer: self });
  const present = { agreement, round: undefined };
  const post = new Post({ core, membership, present } as unknown as PostComponents);
  const vote = (view: number): Vote => {
    const signature = gone.sign(voteBytes(run, 'nullify', height + 1, view, null));
    return { type: 'vote', run, author: gone.self, kind: 'nullify', height: height + 1, view, block: null, signature };
  };
  const ahead = { ...vote(0), height: height + 2 };
  for (const { self } of [gone, relay]) membership.onPeer(self, true);
  post.deliver(relay.self, vote(0));
  expect(membership.isLive(gone.self)).toBe(true);
  membership.onPeer(gone.self, false);
  post.deliver(relay.self, vote(0));
  post.deliver(relay.self, ahead);
  post.replay();
  expect(membership.isLive(gone.self)).toBe(false);
  // it was on its way here, or lay here, when the connection was lost
  post.deliver(gone.self, vote(0));
  expect(membership.isLive(gone.self)).toBe(false);
  // it says so itself, or something that nobody has heard
  membership.onPeer(gone.self, true);
  post.deliver(gone.self, vote(0));
  expect(membership.isLive(gone.self)).toBe(true);
  membership.onPeer(gone.self, false);
  post.deliver(relay.self, vote(1));
  expect(membership.isLive(gone.self)).toBe(true);
});

test('without any connection nobody is there, and after a while nobody is known who was heard by way of others', () => {
  for (const forMs of [9999, 10_000]) {
    const { core, membership, run } = memberOfFour();
    const { height, committee } = core.branch.head;
    const agreement = new Agreement({ run, seed: 1, height: height + 1, committee, signer: self });
    const post = new Post({ core, membership, present: { agreement, round: undefined } } as unknown as PostComponents);
    const signature = gone.sign(voteBytes(run, 'nullify', height + 1, 0, null));
    const place = { kind: 'nullify' as const, height: height + 1, view: 0, block: null };
    membership.onPeer(relay.self, true);
    post.deliver(relay.self, { type: 'vote', run, author: gone.self, ...place, signature });
    expect([membership.isLive(gone.self), membership.reachable().length]).toEqual([true, 2]);
    membership.onPeer(relay.self, false);
    expect([membership.isLive(gone.self), membership.reachable().length]).toEqual([false, 0]);
    core.nowMs += forMs;
    membership.onPeer(relay.self, true);
    expect(membership.isLive(gone.self)).toBe(forMs < core.context.genesis.timing.quorumWaitMs!);
  }
});

const requestBy = ({ self: author, sign }: Signer, run: Hash, height: number) => {
  const unsigned = { author, height, attempt: 0 };
  return { ...unsigned, signature: sign(joinBytes(run, unsigned)) };
};

test('who asks to be let in, and then is gone or silent, is not counted on', () => {
  const { core, membership, run } = memberOfFour();
  const { head } = core.branch;
  const [near, far] = ['near', 'far'].map((name) => requestBy(testSigner(name), run, head.height + 1)) as [Join, Join];
  const asking = () => membership.requests(head).joins.map(({ author }) => author);
  const all = [near, far].map(({ author }) => author).sort();
  membership.onPeer(near.author, true);
  for (const join of [near, far]) membership.onJoin(join);
  expect(asking()).toEqual(all);
  expect(membership.hasRequests(head, { joins: true })).toBe(true);
  membership.onPeer(near.author, false);
  expect(asking()).toEqual([far.author]);
  // nobody here is connected to it: others hand on what it says
  core.nowMs += 20_000;
  membership.onJoin(far);
  core.nowMs += 20_000;
  expect(asking()).toEqual([far.author]);
  core.nowMs += 5000;
  expect(membership.hasRequests(head, { joins: true })).toBe(false);
  expect(asking()).toEqual([]);
});

test('who is connected comes in first, longest waiting first, and of those who are not one at a time', () => {
  const { core, membership, run } = memberOfFour();
  const { head } = core.branch;
  const asks = (name: string): string => {
    core.nowMs++;
    const join = requestBy(testSigner(name), run, head.height + 1);
    membership.onJoin(join);
    return join.author;
  };
  const listed = () => membership.requests(head).joins.map(({ author }) => author);
  const far = Array.from({ length: 200 }, (_, i) => asks(`far ${i}`));
  expect(listed()).toEqual([far[0]]);
  const near = Array.from({ length: LIMITS.blockJoinsMax - 1 }, (_, i) => asks(`near ${i}`));
  for (const peer of near) membership.onPeer(peer, true);
  expect(listed()).toEqual([far[0], ...near].sort());
  // said again it has not waited less
  asks('far 0');
  const last = asks('near too');
  membership.onPeer(last, true);
  expect(listed()).toEqual([...near, last].sort());
});

test('who wanted to leave, was not let go, and is back, wants to stay', () => {
  const { core, membership, run } = memberOfFour();
  const { head } = core.branch;
  const unsigned = { author: gone.self, height: head.height + 1 };
  const leave = { ...unsigned, signature: gone.sign(leaveBytes(run, unsigned)) };
  membership.onLeave(leave);
  membership.onPeer(gone.self, false);
  expect(membership.requests(head).leaves).toEqual([leave]);
  membership.onPeer(gone.self, true);
  expect(membership.requests(head).leaves).toEqual([]);
});

test('requests to come in at heights that never come leave room for one that may', () => {
  const { core, membership, run } = memberOfFour();
  const { head } = core.branch;
  const joinOf = (signer: Signer, height: number) => requestBy(signer, run, height);
  const void1 = joinOf(testSigner('void'), 2 ** 40);
  for (let i = 0; i < LIMITS.pendingJoinsMax; i++) membership.onJoin({ ...void1, author: `${void1.author}${i}` });
  const honest = joinOf(testSigner('honest'), head.height + 1);
  membership.onJoin(joinOf(testSigner('another'), 2 ** 40));
  membership.onJoin(honest);
  expect(membership.load.joins).toBe(LIMITS.pendingJoinsMax);
  expect(membership.requests(head).joins).toEqual([honest]);
});

test('who is put out, and was heard by way of others alone, is not remembered', () => {
  const { core, membership } = memberOfFour();
  membership.onPeer(relay.self, true);
  membership.heard(gone.self, membership.placeOf(gone.self));
  membership.absent.add(gone.self);
  const before = core.branch.head;
  const after = { ...before, roster: before.roster.filter(({ peer }) => peer !== gone.self) };
  membership.onBlock(before, signedEntry(core.context.run, before, all, { leaves: [] }).block, after);
  expect(membership.load).toMatchObject({ reachable: 1, absent: 0 });
});
