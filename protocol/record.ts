import type { AgreementRecord } from './agreement.ts';
import { decodeCanonical, encodeCanonical } from './encoding.ts';
import type { Hash } from './hash.ts';
import type { Signer } from './identity.ts';
import { LIMITS } from './limits.ts';
import { decodeMessage, encodeMessage, type Message, type MessageOf } from './messages.ts';

/** What a peer must remember across a crash: what it signed at this height, and the updates that it announced. */
export interface PeerRecord extends AgreementRecord {
  headers: MessageOf<'header'>[];
}

export function encodeRecord({ height, votes, certificates, proposal, headers }: PeerRecord): Uint8Array {
  const messages: Message[] = [...votes, ...certificates];
  if (proposal) messages.push(proposal);
  messages.push(...headers);
  return encodeCanonical({ height, messages: messages.map(encodeMessage) });
}

/** @throws CodedError when it is not a record of this run */
export function decodeRecord(bytes: Uint8Array, run: Hash, signer: Signer): PeerRecord {
  const { height, messages } = decodeCanonical(bytes, RECORD_BYTES_MAX) as { height: number; messages: Uint8Array[] };
  const record: PeerRecord = { height, votes: [], certificates: [], proposal: null, headers: [] };
  for (const each of messages) {
    const message = decodeMessage(each, run, signer);
    if (message.type === 'vote') record.votes.push(message);
    else if (message.type === 'certificate') record.certificates.push(message);
    else if (message.type === 'proposal') record.proposal = message;
    else if (message.type === 'header') record.headers.push(message);
  }
  return record;
}

/** Votes and certificates of one height, each with its block: far more than ever occurs. */
const RECORD_BYTES_MAX = 64 * LIMITS.gossipBytesMax;
