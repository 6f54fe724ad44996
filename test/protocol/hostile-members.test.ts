import { expect, test } from 'vitest';
import { Agreement } from '../../protocol/agreement.ts';
import { checkBlock, firstHead, headHash, leadersOf } from '../../protocol/chain.ts';
import type { Effect, Event } from '../../protocol/events.ts';
import { runIdOf } from '../../protocol/genesis.ts';
import { hashOf } from '../../protocol/hash.ts';
import { Branch, branchFromLog, GENESIS } from '../../protocol/history.ts';
import { comparePeers, type PeerId, type Signer } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { Machine } from '../../protocol/machine.ts';
import type { Message, MessageOf } from '../../protocol/messages.ts';
import { decodeRecord, encodeRecord } from '../../protocol/record.ts';
import { leaderOf, quorumOf } from '../../protocol/roster.ts';
import { blockHash, joinBytes, leaveBytes, proposalBytes, statusBytes, updateBytes } from '../../protocol/signing.ts';
import type { Block } from '../../protocol/wire.ts';
import { Cluster, type TestPeer, testGenesis } from '../helpers/cluster.ts';
import { signedEntry, WHOLE } from '../helpers/history.ts';
import { testSigner } from '../helpers/signers.ts';

/** Puts something between a machine and the rest of the swarm. */
function between(
  { machine }: TestPeer,
  change: { in?: (event: Event) => Event; out?: (effect: Effect) => Effect },
): void {
  const step = machine!.step.bind(machine);
  machine!.step = (event) => {
    const effects = step(change.in?.(event) ?? event);
    return change.out ? effects.map(change.out) : effects;
  };
}

function swarm(peers: number): { cluster: Cluster; members: TestPeer[] } {
  const cluster = new Cluster(5, peers, { waitFor: peers });
  for (const peer of cluster.peers) peer.start();
  return { cluster, members: cluster.peers };
}

/** The header with another size, signed. */
function resized(header: MessageOf<'header'>, by: number, { signer, machine }: TestPeer): MessageOf<'header'> {
  const { signature: _, ...update } = header.update;
  const unsigned = { ...update, size: update.size + by };
  const bytes = updateBytes(machine!.run, header.round, header.base, unsigned);
  return { ...header, update: { ...unsigned, signature: signer.sign(bytes) } };
}

test('a leader that lists its update with another size than it announced gets no votes for it', () => {
  const { cluster, members } = swarm(4);
  const [honest, , liar] = members as [TestPeer, TestPeer, TestPeer];
  const announced = (message: Message) =>
    message.type === 'header' && message.update.author === liar.id ? resized(message, -1, liar) : message;
  between(liar, {
    in: (event) => {
      if (event.type !== 'trained') return event;
      return { ...event, update: { ...event.update, size: event.update.size + 1 } };
    },
    out: (effect) =>
      effect.type === 'broadcast' || effect.type === 'send'
        ? { ...effect, message: announced(effect.message) }
        : effect,
  });
  expect(cluster.runUntil(() => honest.lastRound >= 12, 120_000)).toBe(true);
  const { entries } = honest.machine!.history(WHOLE);
  const theirs = entries.flatMap(({ block }) => block.updates.filter(({ author }) => author === liar.id));
  expect(theirs.length).toBeGreaterThan(3);
  for (const { payload, size } of theirs) expect(size).toBe(cluster.sizes.get(payload));
});

test('who signs one size for some and another for others keeps nobody from a round', () => {
  const { cluster, members } = swarm(4);
  const [victim, , , liar] = members as [TestPeer, TestPeer, TestPeer, TestPeer];
  const restored: Effect[] = [];
  between(victim, {
    in: (event) => {
      if (event.type !== 'messages') return event;
      const lie = (message: Message) =>
        message.type === 'header' && message.update.author === liar.id ? resized(message, 1, liar) : message;
      return { ...event, messages: event.messages.map(lie) };
    },
    out: (effect) => {
      if (effect.type === 'restore') restored.push(effect);
      return effect;
    },
  });
  expect(cluster.runUntil(() => victim.lastRound >= 20, 60_000)).toBe(true);
  expect(victim.rounds.every(({ own, final }) => own === 'included' && final)).toBe(true);
  expect(restored).toEqual([]);
});

test('who cannot train, and is alone with that, tries again', () => {
  const { cluster, members } = swarm(2);
  const [left, gone] = members as [TestPeer, TestPeer];
  expect(cluster.runUntil(() => left.lastRound >= 3, 60_000)).toBe(true);
  gone.kill();
  let broken = 0;
  between(left, {
    in: (event) => {
      if (event.type !== 'trained' || broken > 1) return event;
      broken++;
      return { type: 'broken', nowMs: event.nowMs, base: event.base };
    },
  });
  const round = left.lastRound;
  expect(cluster.runUntil(() => left.lastRound > round + 1, 120_000)).toBe(true);
  expect(broken).toBe(2);
});

test('a round in which most cannot train ends with the updates of those who can', () => {
  const { cluster, members } = swarm(4);
  const [only, ...others] = members as [TestPeer, ...TestPeer[]];
  const told: Effect['type'][] = [];
  for (const peer of others) {
    between(peer, {
      in: (event) => (event.type === 'trained' ? { type: 'broken', nowMs: event.nowMs, base: event.base } : event),
      out: (effect) => {
        told.push(effect.type);
        return effect;
      },
    });
  }
  expect(cluster.runUntil(() => members.every(({ lastRound }) => lastRound >= 5), 60_000)).toBe(true);
  for (const { block } of only.machine!.history(WHOLE).entries.filter(({ block }) => block.kind === 'round')) {
    expect(block.updates.map(({ author }) => author)).toEqual([only.id]);
  }
  // nobody waits for what they would have
  expect(told).not.toContain('finish');
});

test('who cannot train any more has what it announced before in the round', () => {
  const { cluster, members } = swarm(4);
  const [peer] = members as [TestPeer];
  between(peer, {
    out: (effect) => {
      if (effect.type !== 'broadcast' || effect.message.type !== 'header') return effect;
      const { base } = effect.message;
      // as if it had been started again, and had trained once more
      cluster.at(cluster.nowMs, () => peer.give({ type: 'broken', nowMs: cluster.nowMs, base }));
      return effect;
    },
  });
  expect(cluster.runUntil(() => peer.lastRound >= 5, 60_000)).toBe(true);
  expect(peer.rounds.every(({ own }) => own === 'included')).toBe(true);
});

test('a stranger takes no place in an unfinal round', () => {
  const { cluster, members } = swarm(3);
  const stranger = testSigner('stranger');
  for (const peer of members) {
    between(peer, {
      in: (event) => {
        if (event.type !== 'messages') return event;
        const own = event.messages.flatMap((message) =>
          message.type === 'proposal' && message.block.members ? [proposalBeside(message, stranger, peer.id)] : [],
        );
        return {
          ...event,
          messages: [...event.messages, ...own],
          from: [...event.from, ...own.map(() => stranger.self)],
        };
      },
    });
  }
  cluster.runUntil(() => members.every(({ lastRound }) => lastRound >= 3), 60_000);
  members[2]!.kill();
  const unfinal = () => members[0]!.rounds.filter(({ final }) => !final);
  expect(cluster.runUntil(() => unfinal().length >= 10, 60_000)).toBe(true);
  expect(unfinal().every(({ contributors }) => contributors.length === 2)).toBe(true);
});

function proposalBeside(proposal: MessageOf<'proposal'>, { self, sign }: Signer, victim: PeerId) {
  const { run, height } = proposal;
  const block = { ...proposal.block, members: [self, victim].sort(comparePeers) };
  return { ...proposal, author: self, block, signature: sign(proposalBytes(run, height, 0, -1, blockHash(block))) };
}

test.each([2, 4, 7])('all %d members may leave at once', (count) => {
  const { cluster, members } = swarm(count);
  expect(cluster.runUntil(() => members.every(({ lastRound }) => lastRound >= 2), 60_000)).toBe(true);
  for (const peer of members) peer.leave();
  const isDone = ({ reports }: TestPeer) => reports.some(({ kind }) => kind === 'done');
  expect(cluster.runUntil(() => members.every(isDone), 2500)).toBe(true);
});

/** A machine by itself, behind others who say what they like. */
class Behind {
  readonly founder = testSigner('founder');
  readonly signer = testSigner('behind');
  readonly genesis = testGenesis(this.founder.self);
  readonly run = runIdOf(this.genesis);
  readonly machine = new Machine({ signer: this.signer }, { genesis: this.genesis });
  readonly asked: PeerId[] = [];

  constructor() {
    this.gives({ type: 'start', nowMs: 0, restart: null, trustBlock: undefined });
  }

  gives(event: Event): void {
    for (const effect of this.machine.step(event)) if (effect.type === 'request-history') this.asked.push(effect.peer);
  }

  hears(nowMs: number, { self, sign }: Signer, height: number): void {
    const fields = { author: self, height, unfinalTokens: 0, round: 5, tip: 'ab'.repeat(32) };
    const status: Message = {
      type: 'status',
      run: this.run,
      ...fields,
      signature: sign(statusBytes(this.run, fields)),
    };
    this.gives({ type: 'messages', nowMs, messages: [status], from: [self] });
  }
}

test('who offers itself all the time, and answers nothing, is not asked all the time', () => {
  const behind = new Behind();
  const [liar, honest] = [testSigner('liar'), testSigner('honest')];
  for (const { self } of [liar, honest]) behind.gives({ type: 'peer', nowMs: 1, peer: self, up: true });
  for (let nowMs = 100; nowMs < 600_000; nowMs += 100) {
    behind.hears(nowMs, liar, 100);
    if (nowMs % 8000 === 100) behind.hears(nowMs, honest, 3);
  }
  const times = (signer: Signer) => behind.asked.filter((peer) => peer === signer.self).length;
  expect(times(honest)).toBeGreaterThan(10);
  expect(times(liar)).toBeLessThanOrEqual(times(honest) + 1);
});

test.each([1, 2, 3, 20])(
  '%d strangers who boast, and answer nothing, do not keep anybody else from being asked',
  (count) => {
    const behind = new Behind();
    const strangers = Array.from({ length: count }, (_, i) => testSigner(`stranger ${i}`));
    const honest = testSigner('honest');
    for (const { self } of [...strangers, honest]) behind.gives({ type: 'peer', nowMs: 1, peer: self, up: true });
    let nowMs = 10;
    for (; nowMs < 600_000 && !behind.asked.includes(honest.self); nowMs += 100) {
      for (const stranger of strangers) behind.hears(nowMs, stranger, 2 ** 30);
      if (nowMs % 1000 === 10) behind.hears(nowMs, honest, 300);
    }
    // each of them once, before it
    expect(behind.asked.indexOf(honest.self)).toBeGreaterThanOrEqual(0);
    expect(nowMs).toBeLessThanOrEqual((count + 1) * 15_000);
  },
);

test('names that nobody is connected to do not keep those from being asked who are', () => {
  const behind = new Behind();
  const [silent, another, honest] = ['silent', 'another', 'honest'].map(testSigner) as [Signer, Signer, Signer];
  behind.gives({ type: 'peer', nowMs: 1, peer: silent.self, up: true });
  expect(behind.asked).toEqual([silent.self]);
  const name = testSigner('a name');
  for (let i = 0; i < LIMITS.rosterMax + 1; i++) behind.hears(3, { ...name, self: `${name.self}${i}` as PeerId }, 100);
  for (const { self } of [honest, another]) behind.gives({ type: 'peer', nowMs: 4, peer: self, up: true });
  behind.hears(15_010, another, 100);
  expect(behind.asked.slice(1)).toEqual([honest.self]);
});

test('who made up a quorum long ago does not overrule what has been certified since, however much it certifies', () => {
  const { cluster, members } = swarm(4);
  expect(cluster.runUntil(() => members.every(({ lastRound }) => lastRound >= 8), 120_000)).toBe(true);
  const [{ signer: founder, machine }, ...others] = members as [TestPeer, ...TestPeer[]];
  const { run } = machine!;
  const sybil = testSigner('sybil');
  const other = new Branch({ genesis: cluster.genesis, run, signer: founder });
  for (let i = 0; i < 60; i++) {
    const { head } = other;
    const height = head.height + 1;
    const voters = head.committee.map((peer) => (peer === founder.self ? founder : sybil));
    const join = { author: sybil.self, height, attempt: 0 };
    const leave = { author: sybil.self, height };
    const change =
      head.roster.length > 1
        ? { leaves: [{ ...leave, signature: sybil.sign(leaveBytes(run, leave)) }] }
        : { joins: [{ ...join, signature: sybil.sign(joinBytes(run, join)) }] };
    other.extend([signedEntry(run, head, voters, { kind: 'membership', updates: [], ...change })]);
  }
  const history = () => ({ run, anchors: [], entries: other.entries, more: false, states: [] });
  members[0]!.machine = { run, step: () => [], history } as unknown as Machine;
  const { height, unfinalTokens, round, tip } = other.head;
  const fields = { author: founder.self, height, unfinalTokens, round, tip };
  const status: Message = { type: 'status', run, ...fields, signature: founder.sign(statusBytes(run, fields)) };
  const roots = others.map(({ rounds }) => rounds.at(-1)!.root);
  for (const peer of others) {
    peer.give({ nowMs: cluster.nowMs, type: 'messages', messages: [status], from: [founder.self] });
  }
  cluster.runUntil(() => false, 20_000);
  for (const [i, peer] of others.entries()) {
    expect(peer.machine!.standing.roster).toHaveLength(4);
    expect(peer.rounds.map(({ root }) => root)).toContain(roots[i]);
    // it has to go on from where it is asked for, and cannot
    const warned = peer.reports.filter((report) => report.kind === 'warning' && report.code === 'E_HISTORY');
    expect(warned.length).toBeGreaterThan(0);
  }
  // and they go on without it
  const last = Math.max(...others.map(({ lastRound }) => lastRound));
  expect(cluster.runUntil(() => others.every(({ lastRound }) => lastRound > last + 2), 120_000)).toBe(true);
});

test('a leader that would end the round at once, with its own update alone, waits until the others are done', () => {
  const { cluster, members } = swarm(4);
  cluster.trainMs = 5000;
  expect(cluster.runUntil(() => members.every(({ lastRound }) => lastRound === 2), 120_000)).toBe(true);
  const { genesis } = cluster;
  const { run } = members[0]!.machine!;
  const { entries } = members[0]!.machine!.history(WHOLE);
  const { head } = branchFromLog({ genesis, run, signer: members[0]!.signer }, [{ ...GENESIS, entries }]);
  const leader = leaderOf(genesis.seed, head.height + 1, 0, leadersOf(head));
  const liar = members.find(({ id }) => id === leader)!;
  const others = members.filter((peer) => peer !== liar);
  const base = liar.rounds.at(-1)!.root;
  const unsigned = { author: liar.id, payload: hashOf(Uint8Array.of(1)), size: 1, tokens: 1, steps: 1, loss: 1 };
  cluster.sizes.set(unsigned.payload, 1);
  liar.payloads.add(unsigned.payload);
  const update = { ...unsigned, signature: liar.signer.sign(updateBytes(run, head.round, base, unsigned)) };
  const header: Message = { type: 'header', run, round: head.round, base, update, inline: null };
  const place = { height: head.height + 1, previous: head.tip, kind: 'round' as const, round: head.round, base };
  const none = { joins: [], leaves: [], evictions: [] };
  const block: Block = { ...place, head: headHash(head), members: null, updates: [update], ...none };
  const hash = blockHash(block);
  const at = { height: block.height, view: 0, parentView: -1 };
  const signature = liar.signer.sign(proposalBytes(run, at.height, 0, -1, hash));
  const proposal: Message = { type: 'proposal', run, author: liar.id, ...at, block, justification: [], signature };
  const voted: number[] = [];
  for (const peer of others) {
    const step = (_: Event, effects: readonly Effect[]): void => {
      for (const effect of effects) {
        if (effect.type !== 'broadcast' || effect.message.type !== 'vote') continue;
        if (effect.message.kind === 'notarize' && effect.message.block === hash) voted.push(cluster.nowMs);
      }
    };
    peer.watcher = { signer: peer.signer, step };
    const { nowMs } = cluster;
    peer.give({ type: 'messages', nowMs, from: [liar.id, liar.id], messages: [header, proposal] });
  }
  liar.kill();
  const ended = () => others.every(({ lastRound }) => lastRound === 3);
  expect(cluster.runUntil(ended, 60_000)).toBe(true);
  // all had what they had trained by then
  expect(voted).toEqual([]);
  for (const { rounds } of others) {
    expect(rounds.at(-1)!.contributors).toEqual(expect.arrayContaining(others.map(({ id }) => id)));
  }
});

test('a void block is looked at once, however often it is asked about', () => {
  const genesis = testGenesis(testSigner('founder').self, { waitFor: 2 });
  const run = runIdOf(genesis);
  let verified = 0;
  const signer = testSigner('founder');
  const counting: Signer = {
    ...signer,
    verify: (...signed) => {
      verified++;
      return signer.verify(...signed);
    },
  };
  const guest = testSigner('guest');
  const leave = { author: guest.self, height: 1 };
  const leaves = [{ ...leave, signature: guest.sign(leaveBytes(run, leave)) }];
  const head = firstHead(genesis, run);
  const join = { author: guest.self, height: 1, attempt: 0 };
  const joins = [{ ...join, signature: guest.sign(joinBytes(run, join)) }];
  const { block } = signedEntry(run, head, [signer], { kind: 'membership', updates: [], joins, leaves });
  const check = () => checkBlock({ genesis, run, signer: counting }, head, block, run);
  for (let i = 0; i < 3; i++) expect(check).toThrow('a void leave');
  expect(verified).toBe(1);
});

test.each([1, 3])('who remembers votes that its history does not reach casts none below them, one of %d', (count) => {
  const { cluster, members } = swarm(count);
  expect(cluster.runUntil(() => members.every(({ lastRound }) => lastRound >= 6), 120_000)).toBe(true);
  const peer = members.at(-1)!;
  peer.kill();
  // the first frame of its log went bad, and what came after it with that
  const lost = peer.segments[0]!.entries;
  peer.segments = [];
  peer.start();
  expect(peer.reports).toContainEqual(expect.objectContaining({ code: 'W_HISTORY_LOST' }));
  const heights: number[] = [];
  between(peer, {
    out: (effect) => {
      const message = effect.type === 'broadcast' || effect.type === 'send' ? effect.message : undefined;
      if (message?.type === 'vote' || message?.type === 'proposal') heights.push(message.height);
      return effect;
    },
  });
  const before = members[0]!.lastRound;
  const goesOn = cluster.runUntil(() => members.every(({ lastRound }) => lastRound >= before + 4), 60_000);
  // nobody else has what one alone has lost
  expect(goesOn).toBe(count > 1);
  expect(heights.length > 0).toBe(count > 1);
  expect(Math.min(...heights)).toBeGreaterThanOrEqual(lost.at(-1)!.block.height);
});

test('without a quorum a peer that goes stays a member, so that it can come back', () => {
  const { cluster, members } = swarm(3);
  const [first, second, third] = members as [TestPeer, TestPeer, TestPeer];
  expect(cluster.runUntil(() => members.every(({ lastRound }) => lastRound >= 3), 120_000)).toBe(true);
  third.kill();
  const together = () => first.rounds.at(-1)!.contributors.length === 2 && !first.rounds.at(-1)!.final;
  expect(cluster.runUntil(together, 120_000)).toBe(true);
  second.leave();
  cluster.runUntil(() => false, 5000);
  second.kill();
  expect(cluster.runUntil(() => first.rounds.at(-1)!.contributors.length === 1, 60_000)).toBe(true);
  expect(first.machine!.standing.roster).toContain(second.id);
  second.start();
  expect(cluster.runUntil(together, 60_000)).toBe(true);
});

test('of proposals and certificates for later heights only so many are kept', () => {
  const behind = new Behind();
  const { run, machine, founder } = behind;
  for (let i = 0; i < 2 * LIMITS.futureBlocksMax; i++) {
    const signatures: [number, Uint8Array][] = [[0, new Uint8Array(64)]];
    const certificate = { kind: 'finalize' as const, height: 5 + i, view: 0, block: 'ab'.repeat(32), signatures };
    const message: Message = { type: 'certificate', run, certificate, block: null };
    behind.gives({ type: 'messages', nowMs: 10 + i, messages: [message], from: [founder.self] });
  }
  expect(machine.load).toMatchObject({
    futureMessages: LIMITS.futureBlocksMax,
    futureBlocks: LIMITS.futureBlocksMax,
  });
});

test('what strangers say of later rounds does not push out what is kept of others', () => {
  const behind = new Behind();
  const { run, machine, founder } = behind;
  const gives = (message: Message) =>
    behind.gives({ type: 'messages', nowMs: 10, messages: [message], from: [founder.self] });
  const signature = new Uint8Array(64);
  for (let i = 0; i < 10; i++) {
    const certificate = { kind: 'finalize', height: 5 + i, view: 0, block: 'ab'.repeat(32), signatures: [] } as const;
    gives({ type: 'certificate', run, certificate: { ...certificate, signatures: [[0, signature]] }, block: null });
  }
  const base = 'cd'.repeat(32);
  const common = { payload: base, size: 8, tokens: 1, steps: 1, loss: 1, signature };
  for (let i = 0; i < LIMITS.futureMessagesMax + 20; i++) {
    const update = { ...common, author: testSigner(`stranger ${i % 30}`).self };
    gives({ type: 'header', run, round: 50 + i, base, update, inline: null });
  }
  expect(machine.load).toMatchObject({ futureMessages: LIMITS.futureMessagesMax, futureBlocks: 10 });
});

test('a record of however many views can be read again', () => {
  const [run, views] = ['ab'.repeat(32), 1800];
  const signers = Array.from({ length: 200 }, (_, i) => testSigner(`voter ${i}`)).sort((a, b) =>
    comparePeers(a.self, b.self),
  );
  const [signer, ...others] = signers as [Signer, ...Signer[]];
  // the signatures are not looked at here
  const blind = { ...signer, sign: () => new Uint8Array(64), verify: () => true };
  const committee = signers.map(({ self }) => self);
  const agreement = new Agreement({ run, seed: 1, height: 1, committee, signer: blind });
  for (let view = 0; view < views; view++) {
    agreement.nullify();
    for (const { self } of others.slice(0, quorumOf(committee.length) - 1)) {
      const vote = { type: 'vote', run, author: self, kind: 'nullify', height: 1, view, block: null } as const;
      agreement.onVote({ ...vote, signature: new Uint8Array(64) });
    }
  }
  const bytes = encodeRecord({ ...agreement.record(), headers: [] });
  expect(bytes.length).toBeGreaterThan(64 * LIMITS.gossipBytesMax);
  expect(decodeRecord(bytes, run, blind).votes).toHaveLength(views);
});
