import { describe, expect, test } from 'vitest';
import { Agreement } from '../../protocol/agreement.ts';
import { evidenceHolds } from '../../protocol/evidence.ts';
import { hashOf } from '../../protocol/hash.ts';
import type { Signer } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { encodeMessage, type Message, type Vote } from '../../protocol/messages.ts';
import { randomStream } from '../../protocol/random.ts';
import { faultsTolerated, leaderOf, quorumOf } from '../../protocol/roster.ts';
import { blockHash, proposalBytes, voteBytes } from '../../protocol/signing.ts';
import type { Block } from '../../protocol/wire.ts';
import { testSigner } from '../helpers/signers.ts';

const run = hashOf(new Uint8Array([7]));
const seed = 3;
const height = 1;

function swarm(count: number) {
  const signers = Array.from({ length: count }, (_, i) => testSigner(`voter ${i}`));
  signers.sort((a, b) => (a.self < b.self ? -1 : 1));
  const committee = signers.map((signer) => signer.self);
  const make = (i: number) => new Agreement({ run, seed, height, committee, signer: signers[i]! });
  return { signers, committee, make };
}

function block(label: number): Block {
  const base = hashOf(new Uint8Array([label]));
  const empty = { head: run, updates: [], joins: [], leaves: [], evictions: [] };
  return { height, previous: run, kind: 'membership', round: 0, base, members: null, ...empty };
}

function give(agreement: Agreement, message: Message): void {
  if (message.type === 'proposal') agreement.onProposal(message);
  else if (message.type === 'vote') agreement.onVote(message);
  else if (message.type === 'certificate') agreement.onCertificate(message.certificate, message.block);
  agreement.notarize();
}

/** Delivers everything to everybody, in order, until nothing new is said. */
function settle(agreements: Agreement[]): void {
  for (let said = true; said; ) {
    said = false;
    for (const from of agreements) {
      for (const message of from.takeOutbox()) {
        said = true;
        for (const to of agreements) if (to !== from) give(to, message);
      }
    }
  }
}

describe('quorums', () => {
  test.each([
    [1, 0, 1],
    [2, 0, 2],
    [3, 0, 3],
    [4, 1, 3],
    [5, 1, 4],
    [7, 2, 5],
    [64, 21, 43],
  ])('%i voters tolerate %i faults and need %i votes', (voters, faults, quorum) => {
    expect([faultsTolerated(voters), quorumOf(voters)]).toEqual([faults, quorum]);
    // two quorums share more voters than may be faulty
    expect(2 * quorum - voters).toBeGreaterThan(faults);
  });
});

test('with everybody there the first leader decides', () => {
  const { committee, make } = swarm(4);
  const agreements = committee.map((_, i) => make(i));
  const leader = agreements[committee.indexOf(leaderOf(seed, height, 0, committee))]!;
  leader.propose(block(1));
  leader.notarize();
  settle(agreements);
  for (const agreement of agreements) expect(blockHash(agreement.decision!.block)).toBe(blockHash(block(1)));
});

test('a block that this peer voted for stays supported when its view is given up: others may hold its notarization', () => {
  const { committee, make } = swarm(4);
  const leader = committee.indexOf(leaderOf(seed, height, 0, committee));
  const [first, second, other] = [make(leader), make((leader + 1) % 4), make((leader + 2) % 4)];
  first.propose(block(1));
  for (const message of first.takeOutbox()) give(second, message);
  second.nullify();
  first.nullify();
  other.nullify();
  for (const from of [first, other]) for (const message of from.takeOutbox()) second.onVote(message as Vote);
  expect(second.view).toBe(1);
  expect(second.candidates()).toEqual([]);
  expect(second.supported()).toEqual([block(1)]);
  expect(other.supported()).toEqual([]);

  const restarted = make((leader + 1) % 4);
  restarted.restore(second.record());
  expect([restarted.view, restarted.supported()]).toEqual([1, [block(1)]]);
});

test('of many blocks that were voted for the newest are remembered, each once', () => {
  const { committee, make } = swarm(4);
  const agreements = committee.map((_, i) => make(i));
  const leaders = Array.from({ length: 7 }, (_, view) => committee.indexOf(leaderOf(seed, height, view, committee)));
  const voter = agreements[0]!;
  for (const [view, leader] of leaders.entries()) {
    agreements[leader]!.propose(block(view === 6 ? 4 : view + 1));
    for (const message of agreements[leader]!.takeOutbox()) give(voter, message);
    voter.notarize();
    for (const each of agreements) each.nullify();
    settle(agreements);
  }
  const { proposals } = voter.record();
  expect(proposals.map(({ view, block: { base } }) => [view, base])).toEqual(
    [
      [2, 3],
      [4, 5],
      [5, 6],
      [6, 4],
    ].map(([view, label]) => [view, block(label!).base]),
  );
});

test('a silent leader is nullified and the next one decides', () => {
  const { committee, make } = swarm(4);
  const agreements = committee.map((_, i) => make(i));
  const silent = committee.indexOf(leaderOf(seed, height, 0, committee));
  const rest = agreements.filter((_, i) => i !== silent);
  for (const agreement of rest) agreement.nullify();
  settle(rest);
  expect(rest.map((agreement) => agreement.view)).toEqual([1, 1, 1]);
  const next = agreements[committee.indexOf(leaderOf(seed, height, 1, committee))]!;
  next.propose(block(2));
  next.notarize();
  settle(rest);
  for (const agreement of rest) expect(agreement.decision?.block).toEqual(block(2));
});

test('who has not the state to vote on follows others that give up a view once it has it', () => {
  const { committee, make } = swarm(4);
  const [behind, ...others] = committee.map((_, i) => make(i)) as [Agreement, ...Agreement[]];
  behind.setAtTip(false);
  for (const other of others.slice(0, 2)) {
    other.nullify();
    for (const message of other.takeOutbox()) give(behind, message);
  }
  expect(behind.takeOutbox()).toEqual([]);
  expect(behind.view).toBe(0);
  behind.setAtTip(true);
  expect(behind.takeOutbox()).toEqual([expect.objectContaining({ kind: 'nullify', view: 0 })]);
  expect(behind.view).toBe(1);
});

test('a block that was notarized must be repeated: a fresh one is not proposed in its place', () => {
  const { committee, make } = swarm(4);
  const agreements = committee.map((_, i) => make(i));
  const leader = agreements[committee.indexOf(leaderOf(seed, height, 0, committee))]!;
  leader.propose(block(1));
  leader.notarize();
  const messages = leader.takeOutbox();
  const others = agreements.filter((agreement) => agreement !== leader);
  for (const message of messages) for (const other of others) give(other, message);
  // votes to notarize arrive everywhere, votes to finalize nowhere
  const votes = others.flatMap((other) => other.takeOutbox()).filter((m): m is Vote => m.type === 'vote');
  for (const vote of votes.filter(({ kind }) => kind === 'notarize')) for (const each of agreements) give(each, vote);
  expect(agreements.every((agreement) => agreement.view === 1)).toBe(true);
  const second = agreements[committee.indexOf(leaderOf(seed, height, 1, committee))]!;
  for (const agreement of agreements) agreement.takeOutbox();
  second.propose(block(9));
  expect(second.proposal?.block).toEqual(block(1));
  second.notarize();
  settle(agreements);
  for (const agreement of agreements) expect(agreement.decision?.block).toEqual(block(1));
});

test('after a restart no view is voted in twice', () => {
  const { committee, make } = swarm(4);
  const index = committee.findIndex((peer) => peer !== leaderOf(seed, height, 0, committee));
  const before = make(index);
  before.nullify();
  expect(before.takeOutbox()).toHaveLength(1);
  const after = make(index);
  after.restore(before.record());
  after.takeOutbox();
  after.nullify();
  const leader = make(committee.indexOf(leaderOf(seed, height, 0, committee)));
  leader.propose(block(1));
  for (const message of leader.takeOutbox()) give(after, message);
  expect(after.takeOutbox()).toEqual([]);
});

test('a voter that signs two blocks in a view counts once and leaves evidence', () => {
  const { signers, committee, make } = swarm(4);
  const agreement = make(0);
  const sign = (label: number): Vote => {
    const hash = blockHash(block(label));
    const signer = signers[1]!;
    const signature = signer.sign(voteBytes(run, 'notarize', height, 0, hash));
    return { type: 'vote', run, author: signer.self, kind: 'notarize', height, view: 0, block: hash, signature };
  };
  agreement.onVote(sign(1));
  agreement.onVote(sign(2));
  agreement.onVote(sign(2));
  expect(agreement.evidence.length).toBeGreaterThan(0);
  expect(agreement.view).toBe(0);
  expect(agreement.evidence[0]!.author).toBe(committee[1]);
  expect(evidenceHolds(signers[0]!, run, agreement.evidence[0]!)).toBe(true);
});

/** One height under a schedule drawn from a seed, with a liar that signs whatever it can. @returns what was decided */
function lieAndShuffle(scheduleSeed: number): Set<string> {
  const random = randomStream(scheduleSeed, 'schedule');
  const liar = random.below(4);
  const { signers, committee, make } = swarm(4);
  const agreements = committee.map((_, i) => make(i));
  const queue: { to: number; message: Message }[] = [];
  const blocks = [block(1), block(2)];
  const honest = [0, 1, 2, 3].filter((i) => i !== liar);
  const flush = (i: number): void => {
    agreements[i]!.notarize();
    for (const message of agreements[i]!.takeOutbox()) {
      if (message.type === 'proposal') blocks.push(message.block);
      for (const to of honest) if (to !== i) queue.push({ to, message });
    }
  };
  /** The liar tells each peer what it likes. */
  const lie = (): void => {
    const { self: author, ...signer } = signers[liar]!;
    const [view, to] = [random.below(3), honest[random.below(3)]!];
    const about = blocks[random.below(blocks.length)]!;
    const [kind, hash] = (
      [
        ['notarize', blockHash(about)],
        ['finalize', blockHash(about)],
        ['nullify', null],
      ] as const
    )[random.below(3)]!;
    const signature = signer.sign(voteBytes(run, kind, height, view, hash));
    queue.push({ to, message: { type: 'vote', run, author, kind, height, view, block: hash, signature } });
    const parentView = random.below(view + 1) - 1;
    const proposed = signer.sign(proposalBytes(run, height, view, parentView, blockHash(about)));
    const common = { author, height, view, parentView, block: about, justification: [] };
    queue.push({ to, message: { type: 'proposal', run, ...common, signature: proposed } });
  };
  for (let step = 0; step < 250; step++) {
    const draw = random.below(100);
    const who = honest[random.below(3)]!;
    if (draw < 6) agreements[who]!.nullify();
    else if (draw < 20) agreements[who]!.propose(block(10 + who));
    else if (draw < 35) lie();
    else if (queue.length > 0) {
      const [{ to, message }] = queue.splice(random.below(queue.length), 1) as [{ to: number; message: Message }];
      give(agreements[to]!, message);
      flush(to);
    }
    flush(who);
  }
  return new Set(honest.flatMap((i) => agreements[i]!.decision ?? []).map((entry) => blockHash(entry.block)));
}

test('one liar of four that votes and proposes at will never gets two blocks decided', () => {
  let decided = 0;
  for (let scheduleSeed = 0; scheduleSeed < 400; scheduleSeed++) {
    const blocks = lieAndShuffle(scheduleSeed);
    expect([scheduleSeed, blocks.size <= 1]).toEqual([scheduleSeed, true]);
    decided += blocks.size;
  }
  // a checker that sees no decisions checks nothing
  expect(decided).toBeGreaterThan(100);
}, 60_000);

test('what a proposal has no room for to prove it is said with it, so that who was away can follow', () => {
  const { committee, make } = swarm(4);
  const agreements = committee.map((_, i) => make(i));
  const away = agreements.pop()!;
  const views = 2 * LIMITS.viewsAheadMax + 3;
  for (let view = 0; view < views; view++) {
    for (const agreement of agreements) agreement.nullify();
    settle(agreements);
  }
  const leader = committee.indexOf(leaderOf(seed, height, views, committee));
  const leading = agreements[leader];
  // the one that was away must not have to lead
  expect(leading?.view).toBe(views);
  leading!.propose(block(1));
  const said = leading!.takeOutbox();
  expect(said.map(({ type }) => type)).toEqual([
    ...Array.from({ length: views - LIMITS.viewsAheadMax }, () => 'certificate'),
    'proposal',
  ]);
  for (const message of said) give(away, message);
  expect(away.hasVoted('notarize')).toBe(true);
  // and who was away then, when it is said again, a part at a time
  const again = [leading!.repeat(), leading!.repeat()];
  for (const part of again) {
    expect(part).toContainEqual(expect.objectContaining({ type: 'proposal' }));
    expect(part.filter(({ type }) => type === 'certificate').length).toBeLessThanOrEqual(17);
  }
  expect(again.flat()).toEqual(expect.arrayContaining(said));
});

test('who comes to a view that more than f have given up already gives it up too, without waiting', () => {
  const { signers, make } = swarm(4);
  const late = make(0);
  const nullification = ({ self: author, sign }: Signer, view: number): Vote => {
    const signature = sign(voteBytes(run, 'nullify', height, view, null));
    return { type: 'vote', run, author, kind: 'nullify', height, view, block: null, signature };
  };
  const [one, two] = [signers[1]!, signers[2]!];
  // what closes a view may come after what was said in the next
  for (const voter of [one, two]) give(late, nullification(voter, 1));
  expect(late.hasVoted('nullify')).toBe(false);
  for (const voter of [one, two]) give(late, nullification(voter, 0));
  expect(late.view).toBe(2);
  const said = late.takeOutbox().map((message) => message.type === 'vote' && [message.kind, message.view]);
  expect(said).toEqual([
    ['nullify', 0],
    ['nullify', 1],
  ]);
});

test('what proves a proposal of many voters is cut by its bytes', () => {
  const { committee, make } = swarm(200);
  const agreements = committee.map((_, i) => make(i));
  const [views, quorum] = [4, quorumOf(200)];
  const leader = agreements[committee.indexOf(leaderOf(seed, height, views, committee))]!;
  const voters = [leader, ...agreements.filter((each) => each !== leader)].slice(0, quorum);
  for (let view = 0; view < views; view++) {
    for (const voter of voters) voter.nullify();
    settle(voters);
  }
  leader.propose(block(1));
  const said = leader.takeOutbox();
  expect(said.map(({ type }) => type)).toEqual(['certificate', 'proposal']);
  const bytes = said.map((message) => encodeMessage(message).length);
  expect(bytes[1]).toBeGreaterThan(0.9 * LIMITS.justificationBytesMax);
  expect(bytes[1]).toBeLessThan(LIMITS.justificationBytesMax + 1024);
});

test('what a vote was about is known after a restart, also where another proposed it', () => {
  const { committee, make } = swarm(4);
  const leader = committee.indexOf(leaderOf(seed, height, 0, committee));
  const [leading, voter] = [make(leader), make((leader + 1) % 4)];
  leading.propose(block(1));
  for (const message of leading.takeOutbox()) give(voter, message);
  const restarted = make((leader + 1) % 4);
  restarted.restore(voter.record());
  expect(restarted.supported()).toEqual([block(1)]);
  // and it repeats what it has said itself, no more
  expect(restarted.repeat().map(({ type }) => type)).toEqual(['vote']);
});
