import { expect, test } from 'vitest';
import { headHash, stateAt } from '../../protocol/chain.ts';
import { Core } from '../../protocol/core.ts';
import { runIdOf } from '../../protocol/genesis.ts';
import { hashOf } from '../../protocol/hash.ts';
import { Branch } from '../../protocol/history.ts';
import { comparePeers, type Signer } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { Membership } from '../../protocol/membership.ts';
import type { Message, Proposal, Vote } from '../../protocol/messages.ts';
import { Payloads } from '../../protocol/payloads.ts';
import type { Round } from '../../protocol/round.ts';
import { blockHash, proposalBytes, updateBytes, voteBytes } from '../../protocol/signing.ts';
import { Unfinal } from '../../protocol/unfinal.ts';
import { testGenesis } from '../helpers/cluster.ts';
import { factsOf, signedEntry } from '../helpers/history.ts';
import { testSigner } from '../helpers/signers.ts';

const VIEW_MS = 2000;
const all = ['a', 'b', 'c'].map(testSigner).sort((a, b) => comparePeers(a.self, b.self));

/** One of three members, who can reach the other two, in an unfinal round that the first is to lead. */
function memberOf(place: number) {
  const signer = all[place]!;
  const genesis = testGenesis(all[0]!.self);
  const run = runIdOf(genesis);
  const core = new Core({ genesis, run, signer });
  const facts = factsOf(all.map(({ self }) => ({ peer: self, lastRound: 11 })));
  const entry = signedEntry(run, { ...core.branch.head, height: 11, round: 11 }, [all[0]!]);
  core.branch = new Branch(core.context, { anchors: [{ head: facts, entry }], passed: null, pinned: null });
  const { root } = core.setApplied(1, stateAt(core.branch.head, { id: run, bytes: 1 }), true);
  const membership = new Membership(core);
  for (const { self } of all) if (self !== signer.self) membership.onPeer(self, true);
  const payloads = new Payloads(core);
  const unfinal = new Unfinal(core, membership, payloads);
  const unsigned = {
    author: all[0]!.self,
    payload: hashOf(new Uint8Array(1)),
    size: 1,
    tokens: 1,
    steps: 1,
    loss: 1,
  };
  const update = { ...unsigned, signature: all[0]!.sign(updateBytes(run, 12, root, unsigned)) };
  // its payload is here
  payloads.require({ updates: [update], round: 12 } as never, () => []);
  payloads.onPayload(update, null);
  const round = { round: 12, base: root, held: () => [update], plannedEndMs: () => 0 } as unknown as Round;
  const progress = () => {
    const entry = unfinal.progress(round, VIEW_MS);
    const effects = core.takeEffects();
    const said = effects.flatMap((effect) => (effect.type === 'broadcast' ? effect.message : []));
    const fetched = effects.flatMap((effect) => (effect.type === 'fetch' ? effect.update.payload : []));
    return { entry, said, fetched };
  };
  const endorse = (by: Signer, block: string): Vote => {
    const [height, kind] = [core.branch.head.height + 1, 'endorse' as const];
    const signature = by.sign(voteBytes(run, kind, height, 0, block));
    return { type: 'vote', run, author: by.self, kind, height, view: 0, block, signature };
  };
  core.takeEffects();
  return { core, unfinal, membership, progress, endorse, root };
}

const typesOf = (messages: readonly Message[]) => messages.map(({ type }) => type);

test('a member that endorses whatever it likes keeps no other from being counted', () => {
  const { unfinal, progress, endorse } = memberOf(0);
  const { said } = progress();
  expect(typesOf(said)).toEqual(['proposal', 'vote']);
  const block = blockHash((said[0] as Proposal).block);
  unfinal.onVote(endorse(all[1]!, block));
  for (let i = 0; i < 100; i++) unfinal.onVote(endorse(all[2]!, hashOf(new Uint8Array([i]))));
  expect(progress().entry).toBeUndefined();
  expect(unfinal.load).toMatchObject({ endorsers: 3, endorsements: 4 });
  unfinal.onVote(endorse(all[2]!, block));
  const { entry, said: last } = progress();
  expect(entry?.certificate.signatures).toHaveLength(3);
  expect(typesOf(last)).toEqual(['certificate']);
});

test('proposal and endorsement are said again until the round is decided, or given up', () => {
  const leader = memberOf(0);
  const { said } = leader.progress();
  expect(leader.unfinal.repeat()).toEqual(said);
  const follower = memberOf(1);
  expect(follower.unfinal.repeat()).toEqual([]);
  follower.unfinal.onProposal(said[0] as Proposal);
  const answer = follower.progress();
  expect(typesOf(answer.said)).toEqual(['vote']);
  expect(follower.unfinal.repeat()).toEqual(answer.said);
  // the third stays silent: the next attempt is made without it
  leader.unfinal.onVote(answer.said[0] as Vote);
  leader.core.nowMs += VIEW_MS;
  const [second] = leader.progress().said as [Proposal];
  expect(second.block.members).toEqual([all[0]!.self, all[1]!.self]);
  leader.unfinal.onVote(leader.endorse(all[1]!, blockHash(second.block)));
  expect(leader.progress().entry?.block).toEqual(second.block);
  expect(leader.unfinal.repeat()).toEqual([]);
});

test('a member that proposes one block after another has the payloads of so many fetched, and no more', () => {
  const { core, unfinal, progress, root } = memberOf(1);
  const [leader, , third] = all as [Signer, Signer, Signer];
  const proposalOf = (author: Signer, number: number): Proposal => {
    const { head } = core.branch;
    const { run } = core.context;
    const payload = {
      author: author.self,
      payload: hashOf(Uint8Array.of(9, number)),
      size: 1,
      tokens: 1,
      steps: 1,
      loss: 1,
    };
    const update = { ...payload, signature: author.sign(updateBytes(run, 12, root, payload)) };
    const [height, members] = [head.height + 1, all.map(({ self }) => self)];
    const changes = { joins: [], leaves: [], evictions: [] };
    const facts = { previous: head.tip, kind: 'round' as const, round: 12, base: root, head: headHash(head) };
    const block = { height, ...facts, members, updates: [update], ...changes };
    const signature = author.sign(proposalBytes(run, height, 0, -1, blockHash(block)));
    const place = { height, view: 0, parentView: -1 };
    return { type: 'proposal', run, author: author.self, ...place, block, justification: [], signature };
  };
  const fetched = (proposal: Proposal): string[] => {
    unfinal.onProposal(proposal);
    return progress().fetched;
  };
  const proposals = Array.from({ length: 40 }, (_, i) => proposalOf(leader, i));
  const named = proposals.map(({ block }) => block.updates[0]?.payload);
  expect(proposals.flatMap(fetched)).toEqual(named.slice(0, LIMITS.unfinalProposalsMax));
  expect(unfinal.load.proposals).toBe(LIMITS.unfinalProposalsMax);
  // said again it is heard, and others are too
  expect(fetched(proposals[3]!)).toEqual([]);
  expect(fetched(proposalOf(third, 100))).toHaveLength(1);
});

test('a leader that says everything but its proposal is passed over, and not asked again for this round', () => {
  const { core, membership, progress } = memberOf(1);
  const talks = (): void => membership.heard(all[0]!.self, membership.placeOf(all[0]!.self));
  progress();
  core.nowMs = 2 * VIEW_MS;
  talks();
  const { said } = progress();
  expect(typesOf(said)).toEqual(['proposal', 'vote']);
  expect((said[0] as Proposal).block.members).toEqual([all[1]!.self, all[2]!.self]);
  talks();
  expect(membership.isLive(all[0]!.self)).toBe(true);
  core.nowMs += VIEW_MS; // the third is silent: alone then
  talks();
  const { said: more, entry } = progress();
  expect(more).toEqual([]);
  expect(entry?.block.members).toEqual([all[1]!.self]);
});
