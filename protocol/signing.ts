import * as z from 'zod';
import { encodeCanonical } from './encoding.ts';
import { type Hash, hashOf } from './hash.ts';
import { type PeerId, publicKeyOf, type Signer } from './identity.ts';
import { quorumOf } from './roster.ts';
import { type Block, type Certificate, type Join, type Leave, type Update, type VoteKind, wireBlock } from './wire.ts';

/**
 * What is signed, for every signed thing. The first element separates the domains, the second the runs, so that a
 * signature given for one purpose or run is worth nothing in another.
 */

export function blockHash(block: Block): Hash {
  const known = blockHashes.get(block);
  if (known) return known;
  const hash = hashOf(encodeCanonical(['outerloop/block', z.encode(wireBlock, block)]));
  blockHashes.set(block, hash);
  return hash;
}
const blockHashes = new WeakMap<Block, Hash>();

/** A header is signed over run, round, base root, author, payload hash, size, tokens, steps and loss. */
export function updateBytes(run: Hash, round: number, base: Hash, update: Omit<Update, 'signature'>): Uint8Array {
  const { author, payload, size, tokens, steps, loss } = update;
  return encodeCanonical(['outerloop/header', run, round, base, author, payload, size, tokens, steps, loss]);
}

export function joinBytes(run: Hash, join: Omit<Join, 'signature'>): Uint8Array {
  return encodeCanonical(['outerloop/join', run, join.author, join.height, join.attempt]);
}

export function leaveBytes(run: Hash, leave: Omit<Leave, 'signature'>): Uint8Array {
  return encodeCanonical(['outerloop/leave', run, leave.author, leave.height]);
}

/** The author is not part of it: a certificate proves it by the key that verifies. */
export function voteBytes(run: Hash, kind: VoteKind, height: number, view: number, block: Hash | null): Uint8Array {
  return encodeCanonical(['outerloop/vote', run, kind, height, view, block]);
}

export function proposalBytes(run: Hash, height: number, view: number, parentView: number, block: Hash): Uint8Array {
  return encodeCanonical(['outerloop/proposal', run, height, view, parentView, block]);
}

export function statusBytes(run: Hash, status: { author: PeerId } & Record<string, unknown>): Uint8Array {
  return encodeCanonical(['outerloop/status', run, status]);
}

export function signedBy(signer: Signer, author: PeerId, bytes: Uint8Array, signature: Uint8Array): boolean {
  try {
    return signer.verify(publicKeyOf(author), bytes, signature);
  } catch {
    return false; // not the id of an Ed25519 key, so nobody can have signed
  }
}

/** Whether a certificate carries enough distinct, valid signatures of the committee (all of them for `endorse`). */
export function certificateHolds(
  signer: Signer,
  run: Hash,
  committee: readonly PeerId[],
  certificate: Certificate,
): boolean {
  const known = heldFor.get(certificate);
  if (known?.committee === committee && known.run === run) return true;
  const { kind, height, view, block, signatures } = certificate;
  const needed = kind === 'endorse' ? committee.length : quorumOf(committee.length);
  if (signatures.length < needed || (kind === 'nullify') !== (block === null)) return false;
  const bytes = voteBytes(run, kind, height, view, block);
  let last = -1;
  for (const [place, signature] of signatures) {
    const peer = committee[place];
    if (place <= last || peer === undefined || !signedBy(signer, peer, bytes, signature)) return false;
    last = place;
  }
  heldFor.set(certificate, { run, committee });
  return true;
}

/** Whom a certificate was found to hold for: the same one comes with a message, a proposal and a history. */
const heldFor = new WeakMap<Certificate, { run: Hash; committee: readonly PeerId[] }>();
