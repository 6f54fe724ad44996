import type { Agreement } from './agreement.ts';
import type { Core } from './core.ts';
import type { PeerId } from './identity.ts';
import { LIMITS } from './limits.ts';
import { isMember, type Membership } from './membership.ts';
import type { Message, MessageOf } from './messages.ts';
import type { Round } from './round.ts';
import type { Sync } from './sync.ts';
import type { Unfinal } from './unfinal.ts';
import type { Entry } from './wire.ts';

/** What a peer is at: another agreement with every height, another round with every agreed state. */
export interface Present {
  agreement: Agreement;
  round: Round | undefined;
}

export interface PostComponents {
  core: Core;
  present: Present;
  membership: Membership;
  sync: Sync;
  unfinal: Unfinal;
  /** takes an unfinal entry that others have completed */
  append: (entry: Entry) => void;
}

interface Kept {
  from: PeerId;
  message: Message;
}

/** Takes every message to where it belongs; one for a height or round that this peer has not reached is kept. */
export class Post {
  readonly #c: PostComponents;
  #future: Kept[] = [];

  constructor(components: PostComponents) {
    this.#c = components;
  }

  /** Messages that are kept for later, for a watcher. */
  get load(): { futureMessages: number; futureBlocks: number } {
    return { futureMessages: this.#future.length, futureBlocks: this.#futureBlocks().length };
  }

  deliver(from: PeerId, message: Message): void {
    const author = authorOf(message);
    const place = author === undefined ? undefined : this.#c.membership.placeOf(author);
    const isNews = this.#handle(from, message, place);
    // what others hand on may be old, and its author long gone; and so may who handed it over, while it lay here
    const isFresh = (isNews || from === author) && this.#c.membership.isConnected(from);
    if (author !== undefined && isFresh) this.#c.membership.heard(author, place);
  }

  /**
   * @param member the author's place in the roster, where it was looked up already
   * @returns whether nobody can have kept it back: its author has said it not long ago
   */
  #handle(from: PeerId, message: Message, member?: number): boolean {
    const { membership, sync, unfinal, present } = this.#c;
    switch (message.type) {
      case 'header':
        return this.#onHeader(from, message, member);
      case 'vote':
        if (message.kind === 'endorse') unfinal.onVote(message);
        else if (this.#isAtHeight(from, message, message.height)) return present.agreement.onVote(message);
        return false;
      case 'proposal':
        if (message.block.members) unfinal.onProposal(message);
        else if (this.#isAtHeight(from, message, message.height)) return present.agreement.onProposal(message);
        return false;
      case 'certificate':
        this.#onCertificate(from, message);
        return false;
      case 'status':
        sync.onStatus(message);
        return false;
      case 'join':
        membership.onJoin(message.join);
        return false;
      case 'leave':
        membership.onLeave(message.leave);
        return false;
      default:
        return message satisfies never;
    }
  }

  /** This peer has got further: what it kept may be for now. */
  replay(): void {
    if (this.#future.length === 0) return;
    const kept = this.#future;
    this.#future = [];
    for (const { from, message } of kept) this.#handle(from, message);
  }

  #onHeader(from: PeerId, message: MessageOf<'header'>, member: number | undefined): boolean {
    const { round } = this.#c.present;
    if (round !== undefined && message.base === round.base) {
      // signed for another round, it would make the block that lists it void
      return message.round === round.round && round.onHeader(message, from, member);
    }
    if (message.round >= (this.#c.core.applied?.state.round ?? 0)) this.#keep(from, message);
    return false;
  }

  #onCertificate(from: PeerId, message: MessageOf<'certificate'>): void {
    const { certificate, block } = message;
    if (certificate.kind === 'endorse') {
      const entry = this.#c.unfinal.onCertificate(certificate, block);
      if (entry) this.#c.append(entry);
      return;
    }
    if (this.#isAtHeight(from, message, certificate.height))
      this.#c.present.agreement.onCertificate(certificate, block);
  }

  /** A message of a later height is kept, and someone two heights on is asked how. */
  #isAtHeight(from: PeerId, message: Message, height: number): boolean {
    const current = this.#c.present.agreement.height;
    if (height <= current) return height === current;
    this.#keep(from, message);
    if (height > current + 1) this.#c.sync.ask(from, false);
    return false;
  }

  #dropOneOf(kept: readonly Kept[]): void {
    const least = kept.find(({ message }) => this.#isOfStranger(message)) ?? kept[0]!;
    this.#future.splice(this.#future.indexOf(least), 1);
  }

  #isOfStranger(message: Message): boolean {
    const author = authorOf(message);
    return author !== undefined && !isMember(this.#c.core.branch.head, author);
  }

  #futureBlocks() {
    return this.#future.filter(({ message }) => isLarge(message));
  }

  /** Where there are too many, the oldest goes: of strangers', if there are any, since strangers cost nothing. */
  #keep(from: PeerId, message: Message): void {
    if (isLarge(message)) {
      const blocks = this.#futureBlocks();
      if (blocks.length >= LIMITS.futureBlocksMax) this.#dropOneOf(blocks);
    }
    if (this.#future.length >= LIMITS.futureMessagesMax) this.#dropOneOf(this.#future);
    this.#future.push({ from, message });
  }
}

/** A whole block may be in it, and hundreds of signatures. */
function isLarge({ type }: Message): boolean {
  return type === 'certificate' || type === 'proposal';
}

/** Who signed it, where one alone did. */
function authorOf(message: Message): PeerId | undefined {
  return message.type === 'header' ? message.update.author : 'author' in message ? message.author : undefined;
}
