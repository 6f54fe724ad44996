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

export interface InboxComponents {
  kernel: Kernel;
  /** a connection may break while something is on the way over it */
  connected: (from: number, to: number) => boolean;
  onRead: (peer: number, batch: Batch) => void;
}

interface Inbox extends Batch {
  /** when each arrives */
  readonly times: number[];
  /** what is being handled */
  readonly batch: Batch;
  /** the next read, or the end of handling what was read */
  planned: Planned | undefined;
  handling: boolean;
}

/**
 * What is on the way to each peer. Handling a message takes a peer's network thread a while; what arrives meanwhile waits
 * and is read in one go, as from sockets. So a busy swarm costs an event for each read, not for each message.
 */
export class Inboxes {
  readonly #c: InboxComponents;
  readonly #handleMs: number;
  readonly #inboxes: Inbox[];

  /** @param handleMs what a message takes: to decode it, check its signature and pass it on */
  constructor(components: InboxComponents, init: { peers: number; handleMs: number }) {
    this.#c = components;
    this.#handleMs = init.handleMs;
    this.#inboxes = Array.from({ length: init.peers }, () => ({
      ...emptyBatch(),
      times: [],
      batch: emptyBatch(),
      planned: undefined,
      handling: false,
    }));
  }

  /** @param direct it comes over the sender's own connection, and not if that breaks before */
  put(peer: number, atMs: number, message: Message, number: number, from: number, direct: boolean): void {
    const inbox = this.#inboxes[peer]!;
    inbox.times.push(atMs);
    inbox.messages.push(message);
    inbox.numbers.push(number);
    inbox.from.push(direct ? ~from : from);
    if (inbox.handling || (inbox.planned && inbox.planned.atMs <= atMs)) return;
    this.#c.kernel.cancel(inbox.planned);
    inbox.planned = this.#c.kernel.at(atMs, () => this.#read(peer, inbox));
  }

  /** The process is gone: what is on the way to it is lost. */
  clear(peer: number): void {
    const inbox = this.#inboxes[peer]!;
    this.#c.kernel.cancel(inbox.planned);
    inbox.planned = undefined;
    inbox.handling = false;
    inbox.times.length = 0;
    empty(inbox);
  }

  #read(peer: number, inbox: Inbox): void {
    const { kernel } = this.#c;
    const nextMs = this.#take(peer, inbox);
    const costMs = inbox.batch.messages.length * this.#handleMs;
    inbox.planned = undefined;
    if (costMs > 0) {
      inbox.handling = true;
      inbox.planned = kernel.after(costMs, () => {
        inbox.handling = false;
        inbox.planned = undefined;
        this.#give(peer, inbox);
        if (!inbox.planned && inbox.times.length > 0) this.#read(peer, inbox);
      });
      return;
    }
    if (nextMs !== Number.POSITIVE_INFINITY) inbox.planned = kernel.at(nextMs, () => this.#read(peer, inbox));
    this.#give(peer, inbox);
  }

  #give(peer: number, { batch }: Inbox): void {
    if (batch.messages.length > 0) this.#c.onRead(peer, batch);
  }

  /** Moves what has arrived into the batch. @returns when the next of the others arrives */
  #take(peer: number, { times, messages, from, numbers, batch }: Inbox): number {
    const { nowMs } = this.#c.kernel;
    empty(batch);
    let nextMs = Number.POSITIVE_INFINITY;
    let kept = 0;
    for (let i = 0; i < times.length; i++) {
      const atMs = times[i]!;
      const by = from[i]!;
      if (atMs > nowMs) {
        if (atMs < nextMs) nextMs = atMs;
        times[kept] = atMs;
        messages[kept] = messages[i]!;
        numbers[kept] = numbers[i]!;
        from[kept++] = by;
      } else if (by >= 0 || this.#c.connected(~by, peer)) {
        batch.messages.push(messages[i]!);
        batch.numbers.push(numbers[i]!);
        batch.from.push(by >= 0 ? by : ~by);
      }
    }
    times.length = kept;
    messages.length = kept;
    numbers.length = kept;
    from.length = kept;
    return nextMs;
  }
}

function emptyBatch(): Batch {
  return { messages: [], from: [], numbers: [] };
}

function empty({ messages, from, numbers }: Batch): void {
  messages.length = 0;
  from.length = 0;
  numbers.length = 0;
}
