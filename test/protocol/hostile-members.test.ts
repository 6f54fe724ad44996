import { expect, test } from 'vitest';
import { Agreement } from '../../protocol/agreement.ts';
import type { Effect, Event } from '../../protocol/events.ts';
import { runIdOf } from '../../protocol/genesis.ts';
import { comparePeers, type PeerId, type Signer } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { Machine } from '../../protocol/machine.ts';
import type { Message, MessageOf } from '../../protocol/messages.ts';
import { decodeRecord, encodeRecord } from '../../protocol/record.ts';
import { quorumOf } from '../../protocol/roster.ts';
import { blockHash, proposalBytes, statusBytes, updateBytes } from '../../protocol/signing.ts';
import { Cluster, type TestPeer, testGenesis } from '../helpers/cluster.ts';
import { WHOLE } from '../helpers/history.ts';
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
