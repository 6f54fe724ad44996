import { expect, test } from 'vitest';
import { Core } from '../../protocol/core.ts';
import { runIdOf } from '../../protocol/genesis.ts';
import { hashOf } from '../../protocol/hash.ts';
import { Branch } from '../../protocol/history.ts';
import { comparePeers } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { Membership } from '../../protocol/membership.ts';
import { encodeMessage, type Message, type Proposal } from '../../protocol/messages.ts';
import { Payloads } from '../../protocol/payloads.ts';
import type { Round } from '../../protocol/round.ts';
import { Unfinal } from '../../protocol/unfinal.ts';
import type { Block, Certificate, Evidence } from '../../protocol/wire.ts';
import { testGenesis } from '../helpers/cluster.ts';
import { factsOf, signedEntry } from '../helpers/history.ts';
import { testSigner } from '../helpers/signers.ts';

const MEMBERS = 500;
const signer = testSigner('large 0');
const genesis = testGenesis(signer.self);
const run = runIdOf(genesis);
const stranger = (i: number) => `12D3KooW${String(i).padStart(44, 'x')}`;
const peers = [signer.self, ...Array.from({ length: MEMBERS - 1 }, (_, i) => stranger(i))].sort(comparePeers);
const signature = new Uint8Array(64).fill(255);
const hash = hashOf(signature);
const large = 2 ** 40;

/** A peer of a run with five hundred members, all of which it can reach. */
function ofMany() {
  const context = { genesis, run, signer };
  const core = new Core(context);
  const entry = signedEntry(run, { ...core.branch.head, height: 9, round: 9 }, [signer]);
  const head = factsOf(peers.map((peer) => ({ peer, lastRound: 9 })));
  core.branch = new Branch(context, { anchors: [{ head, entry }], passed: null, pinned: null });
  const membership = new Membership(core);
  for (const peer of peers) membership.onPeer(peer, true);
  return { core, membership, unfinal: new Unfinal(core, membership, new Payloads(core)) };
}

test('where more go than a block names, the rest go with the next', () => {
  const { core, membership } = ofMany();
  for (const author of peers) membership.onLeave({ author, height: core.branch.head.height + 1, signature });
  const { leaves } = membership.requests(core.branch.head);
  expect(leaves.map(({ author }) => author)).toEqual(peers.slice(0, LIMITS.blockLeavesMax));
});

test('an unfinal round is signed by the voters and its leader alone where more are there than a block names', () => {
  const { core, unfinal } = ofMany();
  const unsigned = { author: signer.self, payload: hash, size: 1, tokens: 1, steps: 1, loss: 1 };
  // a round in which it is this peer's turn
  const round = {
    round: peers.indexOf(signer.self),
    base: run,
    held: () => [{ ...unsigned, signature }],
    plannedEndMs: () => 0,
  };
  unfinal.progress(round as unknown as Round, 1000);
  const sent = core.takeEffects().flatMap((effect) => (effect.type === 'broadcast' ? effect.message : []));
  const [{ block }] = sent as [Proposal];
  const { committee } = core.branch.head;
  expect(committee).toHaveLength(LIMITS.blockMembersMax);
  expect(block.members).toHaveLength(LIMITS.blockMembersMax);
  expect(block.members).toContain(signer.self);
  expect(committee.filter((peer) => block.members!.includes(peer)).length).toBeGreaterThanOrEqual(committee.length - 1);
});

test('all that a block may have fits in one message, with what proves it', () => {
  const places = Array.from({ length: LIMITS.blockUpdatesMax }, (_, i) => stranger(i));
  const update = { payload: hash, size: LIMITS.blobBytesMax, tokens: large, steps: 1_000_000, loss: 1.1, signature };
  const vote = { kind: 'notarize', block: hash, signature } as const;
  const evidence: Omit<Evidence, 'author'> = { height: large, view: large, votes: [vote, vote] };
  const block: Block = {
    height: large,
    previous: hash,
    kind: 'membership',
    round: large,
    base: hash,
    head: hash,
    members: null,
    updates: places.map((author) => ({ author, ...update })),
    joins: places.slice(0, LIMITS.blockJoinsMax).map((author) => ({ author, height: large, attempt: 1e6, signature })),
    leaves: places.slice(0, LIMITS.blockLeavesMax).map((author) => ({ author, height: large, signature })),
    evictions: places.slice(0, LIMITS.blockEvictionsMax).map((author) => ({ author, ...evidence })),
  };
  const certificateOf = (voters: number): Certificate => ({
    kind: 'notarize',
    height: large,
    view: large,
    block: hash,
    signatures: Array.from({ length: voters }, (_, place) => [place, signature]),
  });
  const proposal: Message = {
    type: 'proposal',
    run,
    author: signer.self,
    height: large,
    view: large,
    parentView: large,
    block,
    justification: Array.from({ length: 3 }, () => certificateOf(134)),
    signature,
  };
  const members = places.slice(0, LIMITS.blockMembersMax);
  const certificate: Message = {
    type: 'certificate',
    run,
    certificate: certificateOf(members.length),
    block: { ...block, members },
  };
  for (const message of [proposal, certificate]) {
    expect(encodeMessage(message).length).toBeLessThanOrEqual(LIMITS.gossipBytesMax);
    expect(encodeMessage(message).length).toBeGreaterThan(0.9 * LIMITS.gossipBytesMax);
  }
});
