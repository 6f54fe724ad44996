import type { Message, MessageOf } from '../../protocol/messages.ts';
import type { RandomStream } from '../../protocol/random.ts';

/** Messages that a liar remembers, to say them again. */
const MESSAGES = 300;
/** Requests to come and to go that it remembers besides: they are few among all the votes. */
const REQUESTS = 100;

/** What a liar has heard and said. */
export class Remembered {
  readonly messages: Message[] = [];
  readonly requests: MessageOf<'join' | 'leave'>[] = [];
  readonly #random: RandomStream;
  readonly #noted = new WeakSet<Message>();

  constructor(random: RandomStream) {
    this.#random = random;
  }

  /** The same message once, however often it comes and to however many it is said. @returns whether it is new */
  note(message: Message): boolean {
    if (this.#noted.has(message)) return false;
    this.#noted.add(message);
    const isRequest = message.type === 'join' || message.type === 'leave';
    if (isRequest && this.requests.length < REQUESTS) this.requests.push(message);
    if (this.messages.length < MESSAGES) this.messages.push(message);
    else this.messages[this.#random.below(MESSAGES)] = message;
    return true;
  }
}
