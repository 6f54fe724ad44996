import { decodeCanonical, encodeCanonical } from '../../protocol/encoding.ts';
import { CodedError } from '../../protocol/errors.ts';
import type { Event, Restart } from '../../protocol/events.ts';
import type { PeerId, Signer } from '../../protocol/identity.ts';
import { LIMITS } from '../../protocol/limits.ts';
import { decodeHistory, decodeMessage, encodeHistory, encodeMessage, type Message } from '../../protocol/messages.ts';
import type { AgreedState } from '../../protocol/wire.ts';
import { chainEntries } from '../store/chain-log.ts';

/**
 * A journal file: frames of canonical CBOR, first a head, then one for each event that the machine was given. With the
 * head's genesis, history and record a file can be replayed on its own, by anybody: the peer's signatures are in it, its
 * key is not.
 */

export const JOURNAL_FORMAT = 1;

export interface Head {
  format: typeof JOURNAL_FORMAT;
  self: PeerId;
  /** canonical bytes */
  genesis: Uint8Array;
  /** Unix time in milliseconds at which the clock of the events was 0 */
  clockMs: number;
  /** begins in the middle of a peer's life, where the file before it was full */
  continued: boolean;
  restart: StoredRestart | null;
}

interface StoredRestart {
  /** `chain.log` as it was */
  chain: Uint8Array;
  record: Uint8Array | null;
  applied: { block: string; state: AgreedState } | null;
}

/** A signature that the machine asked for: of bytes with this SHA-256 (its first half, hexadecimal). */
export type Signed = [digest: string, signature: Uint8Array];

export interface Step {
  event: Event;
  signed: Signed[];
  /** what the machine wanted done, see `describeEffect`; null where the event was not given to it at this time */
  outcome: string[] | null;
}

type StoredEvent = Record<string, unknown> & { type: Event['type'] };

/** A record of votes, each with its block, is the largest thing in a frame but for the history in the head. */
const STEP_BYTES_MAX = 64 * LIMITS.gossipBytesMax;
const HEAD_BYTES_MAX = 2 ** 30;

export function encodeHead(head: Head): Uint8Array {
  return encodeCanonical(head);
}

/** @throws CodedError `E_JOURNAL_FORMAT` */
export function decodeHead(bytes: Uint8Array | undefined): Head {
  const head = bytes && (readable(() => decodeCanonical(bytes, HEAD_BYTES_MAX)) as Partial<Head> | null);
  if (!head?.genesis || !head.self) throw notJournal('it does not begin like one');
  if (head.format !== JOURNAL_FORMAT) throw notJournal(`its format is ${head.format}, this program reads 1`);
  return head as Head;
}

function restartOf({ restart }: Head): Restart | null {
  return restart && { ...restart, entries: chainEntries(restart.chain).entries };
}

/** @param bytes the message as it came, so that it need not be encoded again */
export function encodeStep({ event, signed, outcome }: Step, bytes?: Uint8Array): Uint8Array {
  return encodeCanonical([storedEvent(event, bytes), signed, outcome]);
}

/** @throws CodedError `E_JOURNAL_FORMAT`, and those of `decodeMessage` */
export function decodeStep(bytes: Uint8Array, head: Head, run: string, signer: Signer): Step {
  const parts = readable(() => decodeCanonical(bytes, STEP_BYTES_MAX)) as [StoredEvent, Signed[], string[] | null];
  if (!Array.isArray(parts) || parts.length !== 3) throw notJournal('a step in it is not one');
  const [stored, signed, outcome] = parts;
  return { event: eventOf(stored, head, run, signer), signed, outcome };
}

/** Payloads inside headers are left out: the machine never looks at them. */
function storedEvent(event: Event, bytes?: Uint8Array): StoredEvent {
  switch (event.type) {
    case 'start':
      return { type: 'start', nowMs: event.nowMs };
    case 'message': {
      const message = withoutPayload(event.message);
      return { ...event, message: bytes && message === event.message ? bytes : encodeMessage(message) };
    }
    case 'trained':
      return { ...event, inline: null };
    case 'history':
      return { ...event, history: event.history && encodeHistory(event.history) };
    default:
      return { ...event };
  }
}

function eventOf(stored: StoredEvent, head: Head, run: string, signer: Signer): Event {
  const fields = stored as unknown;
  switch (stored.type) {
    case 'start':
      return { ...(fields as { nowMs: number }), type: 'start', restart: restartOf(head) };
    case 'message': {
      const { message } = fields as { message: Uint8Array };
      return { ...(fields as Event & { type: 'message' }), message: decodeMessage(message, run, signer) };
    }
    case 'history': {
      const { history } = fields as { history: Uint8Array | null };
      return { ...(fields as Event & { type: 'history' }), history: history && decodeHistory(history, run) };
    }
    default:
      return fields as Event;
  }
}

function withoutPayload(message: Message): Message {
  return message.type === 'header' && message.inline ? { ...message, inline: null } : message;
}

function readable<T>(read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw notJournal('what is in it cannot be read', cause);
  }
}

function notJournal(why: string, cause?: unknown): CodedError<'E_JOURNAL_FORMAT'> {
  const message = `not a journal of this program: ${why}; give a file of the folder journal/ in a peer's --dir`;
  return new CodedError('E_JOURNAL_FORMAT', message, { cause });
}
