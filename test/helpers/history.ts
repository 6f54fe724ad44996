import { type Head, headHash } from '../../protocol/chain.ts';
import { type Hash, hashOf } from '../../protocol/hash.ts';
import type { Signer } from '../../protocol/identity.ts';
import type { PageRequest } from '../../protocol/messages.ts';
import { blockHash, updateBytes, voteBytes } from '../../protocol/signing.ts';
import type { Block, Entry } from '../../protocol/wire.ts';

/** As much of a history as one answer has. */
export const WHOLE: PageRequest = { fromHeight: 0, skip: 0, anchors: 0 };

/** A round that a member alone has made and signed, on a state. */
export function soloEntry(run: Hash, head: Head, signer: Signer, base: Hash): Entry {
  const { self: author } = signer;
  const unsigned = { author, payload: hashOf(new Uint8Array([1])), size: 100, tokens: 80, steps: 10, loss: 1 };
  const signature = signer.sign(updateBytes(run, head.round, base, unsigned));
  const height = head.height + 1;
  const block: Block = {
    height,
    previous: head.tip,
    kind: 'round',
    round: head.round,
    base,
    head: headHash(head),
    members: [author],
    updates: [{ ...unsigned, signature }],
    joins: [],
    leaves: [],
    evictions: [],
  };
  const hash = blockHash(block);
  const endorsement = signer.sign(voteBytes(run, 'endorse', height, 0, hash));
  return { block, certificate: { kind: 'endorse', height, view: 0, block: hash, signatures: [[0, endorsement]] } };
}
