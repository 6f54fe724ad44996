import type { Message, Vote } from '../../protocol/messages.ts';
import { blockHash } from '../../protocol/signing.ts';
import type { VirtualPeer } from '../virtual-peer.ts';
import { type Checker, Violation } from './checker.ts';

/**
 * A correct peer never contradicts itself, crashes or not: one block a view to propose, to notarize and to finalize, no
 * view both nullified and finalized, one update a round. What never left the peer was never said.
 */
export class VotesChecker implements Checker {
  readonly isOfOnePeer = true;
  readonly #said = new Map<string, string | null>();

  onSent(peer: VirtualPeer, message: Message): void {
    if (message.type === 'vote' && message.author === peer.id) this.#onVote(message);
    if (message.type === 'proposal' && message.author === peer.id && !message.block.members) {
      const { author, height, view, block } = message;
      this.#once(`${author} proposes at ${height}/${view}`, blockHash(block));
    }
    if (message.type === 'header' && message.update.author === peer.id) {
      this.#once(`${peer.id} announces for round ${message.round} on ${message.base}`, message.update.payload);
    }
  }

  #onVote({ author, kind, height, view, block }: Vote): void {
    if (kind === 'endorse') return;
    const name = (of: string) => `${author} votes to ${of} at ${height}/${view}`;
    this.#once(name(kind), block);
    const other = kind === 'finalize' ? 'nullify' : kind === 'nullify' ? 'finalize' : undefined;
    if (other && this.#said.has(name(other))) throw new Violation('votes', `${name(kind)} and ${name(other)}`);
  }

  #once(what: string, value: string | null): void {
    const before = this.#said.get(what);
    if (before === undefined) this.#said.set(what, value);
    else if (before !== value) throw new Violation('votes', `${what} twice: ${before} and ${value}`);
  }
}
