import { decodeCanonical, encodeCanonical } from '../../protocol/encoding.ts';
import { CodedError } from '../../protocol/errors.ts';
import type { Event, Restart, StateOnDisk } from '../../protocol/events.ts';
import type { PeerId, Signer } from '../../protocol/identity.ts';
import {
  decodeHistory,
  decodeMessage,
  encodeHistory,
  encodeMessage,
  type Message,
  type MessageOf,
} from '../../protocol/messages.ts';
import { chainSegments } from '../store/chain-log.ts';

/**
 * A journal file: frames of canonical CBOR, first a head, then one for each event that the machine was given. With the
 * head's genesis, history and record a file can be replayed on its own, by anybody: the peer's signatures are in it, its
 * key is not.
 */

export const JOURNAL_FORMAT = 7;

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
  /** the files of `chain/` as they were */
  chain: Uint8Array[];
  record: Uint8Array | null;
  states: StateOnDisk[];
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

/** A head has a whole history in it, a step all that came in one turn of the event loop. */
const FRAME_BYTES_MAX = 2 ** 30;

export function encodeHead(head: Head): Uint8Array {
  return encodeCanonical(head);
}

/** @throws CodedError `E_JOURNAL_FORMAT` */
export function decodeHead(bytes: Uint8Array | undefined): Head {
  if (!bytes)
    throw notJournal('its beginning is missing (was the peer ended, or its disk full, when it began the file?)');
  const head = readable(() => decodeCanonical(bytes, FRAME_BYTES_MAX)) as Partial<Head> | null;
  if (!head?.genesis || !head.self) throw notJournal('it does not begin like one');
  if (head.format !== JOURNAL_FORMAT)
    throw notJournal(`its format is ${head.format}, this program reads ${JOURNAL_FORMAT}`);
  return head as Head;
}

function restartOf({ restart }: Head): Restart | null {
  return restart && { segments: chainSegments(restart.chain), record: restart.record, states: restart.states };
}

/** @param bytes the messages as they came, so that they need not be encoded again */
export function encodeStep({ event, signed, outcome }: Step, bytes?: readonly Uint8Array[]): Uint8Array {
  return encodeCanonical([storedEvent(event, bytes), signed, outcome]);
}

/** @throws CodedError `E_JOURNAL_FORMAT`, and those of `decodeMessage` */
export function decodeStep(bytes: Uint8Array, head: Head, run: string, signer: Signer): Step {
  const parts = readable(() => decodeCanonical(bytes, FRAME_BYTES_MAX)) as [StoredEvent, Signed[], string[] | null];
  if (!Array.isArray(parts) || parts.length !== 3) throw notJournal('a step in it is not one');
  const [stored, signed, outcome] = parts;
  return { event: eventOf(stored, head, run, signer), signed, outcome };
}

/** Payloads inside headers are left out: the machine looks at whether there is one, and no further. */
function storedEvent(event: Event, bytes?: readonly Uint8Array[]): StoredEvent {
  switch (event.type) {
    case 'start':
      return {
        type: 'start',
        nowMs: event.nowMs,
        ...(event.trustBlock ? { trustBlock: event.trustBlock } : {}),
        ...(event.unfinished ? { unfinished: event.unfinished } : {}),
      };
    case 'messages':
      return { ...event, messages: event.messages.map((message, i) => storedMessage(message, bytes?.[i])) };
    case 'taken': {
      const { headers, refused } = event;
      const errors = headers.map((header) => refused.get(header) ?? null);
      return { type: 'taken', nowMs: event.nowMs, headers: headers.map((header) => storedMessage(header)), errors };
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
      return { ...(fields as Omit<Event & { type: 'start' }, 'restart'>), type: 'start', restart: restartOf(head) };
    case 'messages': {
      const { messages, ...rest } = fields as Omit<Event & { type: 'messages' }, 'messages'> & {
        messages: Uint8Array[];
      };
      return { ...rest, messages: messages.map((message) => decodeMessage(message, run, signer)) };
    }
    case 'taken':
      return takenOf(fields as StoredTaken, run, signer);
    case 'history': {
      const { history } = fields as { history: Uint8Array | null };
      return { ...(fields as Event & { type: 'history' }), history: history && decodeHistory(history, run) };
    }
    default:
      return fields as Event;
  }
}

interface StoredTaken {
  nowMs: number;
  headers: Uint8Array[];
  /** of each header: the code of what is wrong with its payload */
  errors: (string | null)[];
}

function takenOf({ nowMs, headers, errors }: StoredTaken, run: string, signer: Signer): Event {
  const taken: MessageOf<'header'>[] = [];
  const refused = new Map<MessageOf<'header'>, string>();
  for (const [i, bytes] of headers.entries()) {
    const header = decodeMessage(bytes, run, signer);
    if (header.type !== 'header') throw notJournal('a message in it is not a header');
    taken.push(header);
    const error = errors[i] ?? null;
    if (error !== null) refused.set(header, error);
  }
  return { type: 'taken', nowMs, headers: taken, refused };
}

function storedMessage(message: Message, bytes?: Uint8Array): Uint8Array {
  if (message.type === 'header' && message.inline) return encodeMessage({ ...message, inline: NO_BYTES });
  return bytes ?? encodeMessage(message);
}

const NO_BYTES = new Uint8Array(0);

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
