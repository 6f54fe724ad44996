import { expect, test } from 'vitest';
import { Agreement } from '../../protocol/agreement.ts';
import { firstHead, stateAt } from '../../protocol/chain.ts';
import { Chatter } from '../../protocol/chatter.ts';
import { Core } from '../../protocol/core.ts';
import { runIdOf } from '../../protocol/genesis.ts';
import { Membership } from '../../protocol/membership.ts';
import { encodeMessage } from '../../protocol/messages.ts';
import { Payloads } from '../../protocol/payloads.ts';
import { Sync } from '../../protocol/sync.ts';
import { Unfinal } from '../../protocol/unfinal.ts';
import { testGenesis } from '../helpers/cluster.ts';
import { testSigner } from '../helpers/signers.ts';

function chattering(connections: number, founder = 'peer 0') {
  const signer = testSigner('peer 0');
  const genesis = testGenesis(testSigner(founder).self);
  const run = runIdOf(genesis);
  const core = new Core({ genesis, run, signer });
  const membership = new Membership(core);
  for (let i = 1; i <= connections; i++) membership.onPeer(testSigner(`peer ${i}`).self, true);
  core.setApplied(0, stateAt(firstHead(genesis, run), { id: run, bytes: 1 }), true);
  const unfinal = new Unfinal(core, membership, new Payloads(core));
  const sync = new Sync(core, membership);
  const chatter = new Chatter(core, membership, sync, unfinal);
  const agreement = new Agreement({ run, seed: 1, height: 1, committee: [signer.self], signer });
  agreement.nullify();
  /** times at which a status was sent, and to whom, and at which votes were repeated, while the peer waits until then */
  const wait = (untilMs: number, meanwhile = (): void => undefined) => {
    const told: { atMs: number; peers: string[] }[] = [];
    const repeated: number[] = [];
    let joined = false;
    for (; core.nowMs <= untilMs; core.nowMs += 100) {
      chatter.repeatWhenStuck(founder === 'peer 0', agreement, undefined);
      const effects = core.takeEffects();
      const peers = effects.flatMap((effect) => (effect.type === 'send' ? [effect.peer] : []));
      if (peers.length > 0) told.push({ atMs: core.nowMs, peers });
      if (effects.some(({ type }) => type === 'broadcast')) repeated.push(core.nowMs);
      joined ||= effects.some((effect) => effect.type === 'broadcast' && effect.message.type === 'join');
      meanwhile();
    }
    return { told, repeated, joined };
  };
  return { chatter, wait, membership, sync, agreement };
}

test('a peer that just waits says itself again more and more rarely, until there is something new', () => {
  const { chatter, wait } = chattering(2);
  chatter.voted();
  const { told, repeated } = wait(24_000);
  expect(repeated).toEqual([1000, 3000, 7000, 15_000, 23_000]);
  expect(told.map(({ atMs }) => atMs)).toEqual(repeated);
  chatter.voted();
  expect(wait(26_000).repeated).toEqual([25_100]);
});

test('where it stands it tells also while it has much to say: others may be on another branch, and not know', () => {
  const { chatter, wait } = chattering(2);
  const { told, repeated } = wait(24_000, () => chatter.voted());
  expect(repeated).toEqual([0]);
  expect(told.map(({ atMs }) => atMs)).toEqual([1000, 3000, 7000, 15_000, 23_000]);
});

test('a vote is repeated however much else there is to say: unfinal rounds must not keep a quorum from coming back', () => {
  const { chatter, wait } = chattering(2);
  chatter.voted();
  expect(wait(24_000, () => chatter.said()).repeated).toEqual([1000, 3000, 7000, 15_000, 23_000]);
});

test('in a large swarm a repetition tells sixteen peers its status, others each time', () => {
  const { chatter, wait } = chattering(40);
  chatter.said();
  const told = wait(8000).told.map(({ peers }) => peers);
  expect(told.map(({ length }) => length)).toEqual([16, 16, 16]);
  expect(new Set(told.flat()).size).toBe(40);
});

test('who is no member and does not know how far others are says where it stands, and does not ask to be let in', () => {
  const { wait } = chattering(2, 'somebody else');
  const { told, joined } = wait(8000);
  expect(told.map(({ atMs }) => atMs)).toEqual([1000, 3000, 7000]);
  expect(joined).toBe(false);
});

test('who has caught up asks to be let in at once, though all has been repeated rarely for a while', () => {
  const { wait, sync } = chattering(2, 'somebody else');
  expect(wait(8000).joined).toBe(false);
  sync.caughtUp = true;
  expect(wait(8100)).toMatchObject({ joined: true });
});

test('whoever comes hears of one that wants to be let in: when it asked there may have been nobody', () => {
  const { chatter, wait, sync, agreement } = chattering(0, 'somebody else');
  const said = () => chatter.standing(agreement, undefined).map(({ type }) => type);
  wait(0);
  expect(said()).not.toContain('join');
  sync.caughtUp = true;
  wait(100);
  expect(said()).toContain('join');
});

test('a request to join is another message each time, so that gossip carries it again', () => {
  const { membership } = chattering(1);
  const [first, second] = [membership.joinMessage(), membership.joinMessage()];
  expect(encodeMessage(first)).not.toEqual(encodeMessage(second));
});
