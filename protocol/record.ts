import type { AgreementRecord } from './agreement.ts';
import { decodeCanonical, encodeCanonical } from './encoding.ts';
import type { Hash } from './hash.ts';
import type { Signer } from './identity.ts';
import { decodeMessage, encodeMessage, type Message, type MessageOf } from './messages.ts';

/** What a peer must remember across a crash: what it signed at this height, and the updates that it announced. */
export interface PeerRecord extends AgreementRecord {
  headers: MessageOf<'header'>[];
}

export function encodeRecord({ height, votes, certificates, proposals, headers }: PeerRecord): Uint8Array {
  const messages: Message[] = [...votes, ...certificates, ...proposals, ...headers];
  return encodeCanonical({ height, messages: messages.map(encodeMessage) });
}

/** @throws CodedError when it is not a record of this run */
export function decodeRecord(bytes: Uint8Array, run: Hash, signer: Signer): PeerRecord {
  // written by this peer: however many views a height took, it must be read again
  const { height, messages } = decodeCanonical(bytes, bytes.length) as { height: number; messages: Uint8Array[] };
  const record: PeerRecord = { height, votes: [], certificates: [], proposals: [], headers: [] };
  for (const each of messages) {
    const message = decodeMessage(each, run, signer);
    if (message.type === 'vote') record.votes.push(message);
    else if (message.type === 'certificate') record.certificates.push(message);
    else if (message.type === 'proposal') record.proposals.push(message);
    else if (message.type === 'header') record.headers.push(message);
  }
  return record;
}
