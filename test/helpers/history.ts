import { type Head, headHash } from '../../protocol/chain.ts';
import { type Hash, hashOf } from '../../protocol/hash.ts';
import type { Signer } from '../../protocol/identity.ts';
import type { PageRequest } from '../../protocol/messages.ts';
import { quorumOf } from '../../protocol/roster.ts';
import { blockHash, updateBytes, voteBytes } from '../../protocol/signing.ts';
import type { Block, Entry, HeadFacts } from '../../protocol/wire.ts';

/** As much of a history as one answer has. */
export const WHOLE: PageRequest = { fromHeight: 0, skip: 0, anchors: 0 };

/** Of a run whose members have just come, and all train. */
export function factsOf(roster: HeadFacts['roster']): HeadFacts {
  return { roster, places: null, committee: null, cursor: 0, tokens: 0, unfinalTokens: 0, changes: [] };
}

/**
 * A round that a committee has certified, or members have endorsed.
 * @param voters of the committee or the members, in order
 * @param authors of updates, in order
 */
export function signedEntry(
  run: Hash,
  head: Head,
  voters: readonly Signer[],
  change: Partial<Block> = {},
  authors: readonly Signer[] = voters.slice(0, 1),
): Entry {
  const height = head.height + 1;
  const updates = authors.map((signer) => {
    const fields = { payload: hashOf(new Uint8Array([1])), size: 100, tokens: 80, steps: 10, loss: 1 };
    const unsigned = { author: signer.self, ...fields };
    return { ...unsigned, signature: signer.sign(updateBytes(run, head.round, change.base ?? run, unsigned)) };
  });
  const place = { height, previous: head.tip, round: head.round, base: run, head: headHash(head) };
  const empty = { joins: [], leaves: [], evictions: [] };
  const block: Block = { kind: 'round', members: null, updates, ...place, ...empty, ...change };
  const hash = blockHash(block);
  const kind = block.members ? 'endorse' : 'finalize';
  const signed = block.members ? voters : voters.slice(0, quorumOf(voters.length));
  const bytes = voteBytes(run, kind, height, 0, hash);
  const signatures = signed.map((signer, at): [number, Uint8Array] => [at, signer.sign(bytes)]);
  return { block, certificate: { kind, height, view: 0, block: hash, signatures } };
}

/** A round that a member alone has made and signed, on a state. */
export function soloEntry(run: Hash, head: Head, signer: Signer, base: Hash): Entry {
  return signedEntry(run, head, [signer], { base, members: [signer.self] });
}
