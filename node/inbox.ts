import { isCoded } from '../protocol/errors.ts';
import type { Hash } from '../protocol/hash.ts';
import type { PeerId, Signer } from '../protocol/identity.ts';
import { decodeMessage, type Message } from '../protocol/messages.ts';
import type { MessageRates } from './message-rates.ts';
import type { Verdict } from './net/index.ts';

/** What came together: a message, the neighbour that it came from, and its bytes as they came, under one number. */
export interface Batch {
  messages: Message[];
  from: PeerId[];
  bytes: Uint8Array[];
}

/** Of what comes before there is a reader: some rounds of a hundred peers. */
const EARLY_MESSAGES_MAX = 1024;
const EARLY_BYTES_MAX = 4 * 1024 * 1024;

/**
 * The messages of a run on their way from the network to the peer: decoded, their signatures checked, and those that come
 * in one turn of the event loop together. The newest of those that come while the peer starts are kept for it: others
 * repeat them, but after seconds only.
 */
export class Inbox {
  readonly #run: Hash;
  readonly #signer: Signer;
  readonly #rates: Pick<MessageRates, 'take' | 'accepts'>;
  /** what was validated just now, so that it is not decoded and verified twice */
  readonly #decoded = new WeakMap<Uint8Array, Message>();
  #batch = emptyBatch();
  /** bytes of the batch, as long as there is no reader */
  #earlyBytes = 0;
  #read: ((batch: Batch) => void) | undefined;

  /** @param rates how much is taken of whom */
  constructor(run: Hash, signer: Signer, rates: Pick<MessageRates, 'take' | 'accepts'>) {
    this.#run = run;
    this.#signer = signer;
    this.#rates = rates;
  }

  /** Whether anything that this peer hands over would be taken in. */
  accepts(from: PeerId): boolean {
    return this.#rates.accepts(from);
  }

  /** @param from who hands it over */
  validate(bytes: Uint8Array, from: PeerId): Verdict {
    // before anything is made of it, since that is what takes time
    const passage = this.#rates.take(from, bytes.length);
    if (passage === 'cut off') return 'reject';
    if (passage === 'pass over') return 'ignore';
    try {
      this.#decoded.set(bytes, this.#decode(bytes));
      return passage === 'keep' ? 'keep' : 'accept';
    } catch (error) {
      if (isCoded(error)) return 'reject';
      throw error;
    }
  }

  /** @param bytes that `validate` was for, be it to accept or to keep */
  onMessage(bytes: Uint8Array, from: PeerId): void {
    const { messages, from: senders, bytes: all } = this.#batch;
    messages.push(this.#decoded.get(bytes) ?? this.#decode(bytes));
    senders.push(from);
    all.push(bytes);
    if (!this.#read) this.#keepNewest(bytes.length);
    // one read of a socket brings many messages: the machine looks at everything once for all of them
    else if (messages.length === 1) setImmediate(() => this.#handOver());
  }

  /** From here on batches are read: what has come already at once, which may be nothing. */
  open(read: (batch: Batch) => void): void {
    this.#read = read;
    if (this.#batch.messages.length > 0) this.#handOver();
  }

  #decode(bytes: Uint8Array): Message {
    return decodeMessage(bytes, this.#run, this.#signer);
  }

  #keepNewest(added: number): void {
    const { messages, from, bytes } = this.#batch;
    this.#earlyBytes += added;
    while (messages.length > EARLY_MESSAGES_MAX || this.#earlyBytes > EARLY_BYTES_MAX) {
      this.#earlyBytes -= bytes[0]?.length ?? 0;
      for (const column of [messages, from, bytes]) column.shift();
    }
  }

  #handOver(): void {
    const batch = this.#batch;
    this.#batch = emptyBatch();
    this.#read?.(batch);
  }
}

function emptyBatch(): Batch {
  return { messages: [], from: [], bytes: [] };
}
