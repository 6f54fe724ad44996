import type { Message } from '../protocol/messages.ts';
import type { Kernel, Planned } from './kernel.ts';

/** Messages that a peer reads at once, in the order in which they were sent. Lists that are used again afterwards. */
export interface Batch {
  readonly messages: Message[];
  /** who handed each on */
  readonly from: number[];
  /** of each message: the same wherever it arrives */
  readonly numbers: number[];
}

/** A message on its way to one or many. */
export interface Sending {
  readonly message: Message;
  /** counts up from 0 */
  readonly number: number;
  /** bytes */
  readonly size: number;
}

export interface InboxComponents {
  kernel: Kernel;
  /** a connection may break while something is on the way over it */
  connected: (from: number, to: number) => boolean;
  onRead: (peer: number, batch: Batch) => void;
}

interface Inbox {
  /** for each message: when it arrives, and `codeOf` it; two numbers side by side, for there are very many */
  items: Float64Array;
  count: number;
  planned: Planned | undefined;
  readMs: number;
}

/**
 * What is on the way to each peer. A peer reads what has arrived at most once in a while, all in one go, as from its
 * sockets: so a busy swarm costs an event for each read, not for each message.
 */
export class Inboxes {
  readonly #c: InboxComponents;
  readonly #everyMs: number;
  readonly #inboxes: Inbox[];
  /** by number; forgotten when the last one it is for has read it */
  readonly #underWay = new UnderWay();
  readonly #batch: Batch = { messages: [], from: [], numbers: [] };
  /** messages read so far, by all peers */
  read = 0;

  /** @param everyMs how much time passes between two reads of a peer at least */
  constructor(components: InboxComponents, init: { peers: number; everyMs: number }) {
    this.#c = components;
    this.#everyMs = init.everyMs;
    this.#inboxes = Array.from({ length: init.peers }, () => {
      return { items: new Float64Array(16), count: 0, planned: undefined, readMs: Number.NEGATIVE_INFINITY };
    });
  }

  /** To be called before the `put` of a message. @param count how many it is for */
  announce({ number, message }: Sending, count: number): void {
    this.#underWay.add(number, message, count);
  }

  /** @param direct it comes over the sender's own connection, and not if that breaks before */
  put(peer: number, atMs: number, number: number, from: number, direct: boolean): void {
    const inbox = this.#inboxes[peer]!;
    const at = 2 * inbox.count++;
    if (at === inbox.items.length) grow(inbox);
    inbox.items[at] = atMs;
    inbox.items[at + 1] = number * CODE_STEP + 2 * from + Number(direct);
    if (!inbox.planned || inbox.planned.atMs > atMs) this.#plan(peer, inbox, atMs);
  }

  /** The process is gone: what is on the way to it is lost. */
  clear(peer: number): void {
    const inbox = this.#inboxes[peer]!;
    this.#c.kernel.cancel(inbox.planned);
    inbox.planned = undefined;
    for (let i = 0; i < inbox.count; i++) this.#underWay.take(Math.floor(inbox.items[2 * i + 1]! / CODE_STEP));
    inbox.count = 0;
  }

  #plan(peer: number, inbox: Inbox, arrivalMs: number): void {
    const atMs = Math.max(arrivalMs, inbox.readMs + this.#everyMs);
    if (inbox.planned && inbox.planned.atMs <= atMs) return;
    this.#c.kernel.cancel(inbox.planned);
    inbox.planned = this.#c.kernel.at(atMs, () => this.#read(peer, inbox));
  }

  #read(peer: number, inbox: Inbox): void {
    const batch = this.#batch;
    inbox.planned = undefined;
    inbox.readMs = this.#c.kernel.nowMs;
    const nextMs = this.#collect(peer, inbox);
    if (nextMs !== Number.POSITIVE_INFINITY) this.#plan(peer, inbox, nextMs);
    this.read += batch.messages.length;
    if (batch.messages.length > 0) this.#c.onRead(peer, batch);
  }

  /** Moves what has arrived into the batch. @returns when the next of the others arrives */
  #collect(peer: number, inbox: Inbox): number {
    const { items, count } = inbox;
    const { messages, from, numbers } = this.#batch;
    const { nowMs } = this.#c.kernel;
    messages.length = 0;
    from.length = 0;
    numbers.length = 0;
    let nextMs = Number.POSITIVE_INFINITY;
    let kept = 0;
    for (let at = 0; at < 2 * count; at += 2) {
      const atMs = items[at]!;
      const code = items[at + 1]!;
      if (atMs > nowMs) {
        if (atMs < nextMs) nextMs = atMs;
        items[kept++] = atMs;
        items[kept++] = code;
        continue;
      }
      const number = Math.floor(code / CODE_STEP);
      const low = code - number * CODE_STEP;
      const message = this.#underWay.take(number);
      const by = low >> 1;
      if ((low & 1) === 1 && !this.#c.connected(by, peer)) continue;
      messages.push(message);
      from.push(by);
      numbers.push(number);
    }
    inbox.count = kept / 2;
    return nextMs;
  }
}

/** A code is number x CODE_STEP + 2 x sender + whether it came directly: exact in a float64 up to 2^36 messages. */
const CODE_STEP = 1 << 17;

function grow(inbox: Inbox): void {
  const larger = new Float64Array(2 * inbox.items.length);
  larger.set(inbox.items);
  inbox.items = larger;
}

/** Messages by their numbers, for as long as somebody has not read them. Those with the smallest numbers go first. */
class UnderWay {
  #messages: (Message | undefined)[] = [];
  #left: number[] = [];
  /** number of the first in the lists */
  #first = 0;

  add(number: number, message: Message, count: number): void {
    if (this.#messages.length === 0) this.#first = number;
    // a message that nobody is there to receive has no entry
    while (this.#first + this.#messages.length < number) this.#push(undefined, 0);
    this.#push(message, count);
    if (this.#messages.length >= SWEEP_LENGTH && this.#messages.length % SWEEP_LENGTH === 0) this.#sweep();
  }

  take(number: number): Message {
    const at = number - this.#first;
    const message = this.#messages[at]!;
    if (--this.#left[at]! === 0) this.#messages[at] = undefined;
    return message;
  }

  #push(message: Message | undefined, left: number): void {
    this.#messages.push(message);
    this.#left.push(left);
  }

  /** Forgets what lies before the first that is still under way. */
  #sweep(): void {
    let done = 0;
    while (done < this.#messages.length && this.#messages[done] === undefined) done++;
    this.#messages = this.#messages.slice(done);
    this.#left = this.#left.slice(done);
    this.#first += done;
  }
}

const SWEEP_LENGTH = 1024;
