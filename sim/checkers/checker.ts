import type { Effect, Event } from '../../protocol/events.ts';
import type { History, Message } from '../../protocol/messages.ts';
import type { VirtualPeer } from '../virtual-peer.ts';

/**
 * Something that must be true of correct peers whatever happens. A checker sees what they hear, do and say, and throws a
 * `Violation` at the first thing that must not be. It decides nothing and changes nothing.
 */
export interface Checker {
  /** what it states of a peer is that peer's own doing, however many others lie @default false */
  readonly isOfOnePeer?: boolean;
  /** a correct peer's machine took a step */
  onStep?(peer: VirtualPeer, event: Event, effects: readonly Effect[]): void;
  /** a message of a correct peer left it */
  onSent?(peer: VirtualPeer, message: Message): void;
  /** a correct peer told another its history */
  onAnswer?(peer: VirtualPeer, history: History): void;
}

export class Violation extends Error {
  /** the file in this folder that has the invariant */
  readonly checker: string;

  constructor(checker: string, message: string) {
    super(message);
    this.name = 'Violation';
    this.checker = checker;
  }
}
