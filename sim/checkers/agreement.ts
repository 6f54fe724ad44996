import type { Effect, Event } from '../../protocol/events.ts';
import type { Hash } from '../../protocol/hash.ts';
import type { Message } from '../../protocol/messages.ts';
import { blockHash } from '../../protocol/signing.ts';
import type { Certificate } from '../../protocol/wire.ts';
import type { VirtualPeer } from '../virtual-peer.ts';
import { type Checker, Violation } from './checker.ts';

/**
 * No two certified blocks of a height, no two final roots of a round, on any peers, ever. And what that follows from: no
 * two notarized blocks of a view, and no view that is both nullified and finalized.
 */
export class AgreementChecker implements Checker {
  readonly #decided = new Map<number, Hash>();
  readonly #roots = new Map<number, Hash>();
  readonly #certified = new Map<string, Hash | null>();

  onStep(peer: VirtualPeer, _event: Event, effects: readonly Effect[]): void {
    for (const effect of effects) {
      if (effect.type === 'append' && effect.entry.block.members === null) {
        const { height } = effect.entry.block;
        this.#once(this.#decided, height, blockHash(effect.entry.block), `height ${height}, peer ${peer.index}`);
      }
      if (effect.type === 'report' && effect.report.kind === 'round' && effect.report.final) {
        const { round, root } = effect.report;
        this.#once(this.#roots, round, root, `root of round ${round}, peer ${peer.index}`);
      }
    }
  }

  onSent(peer: VirtualPeer, message: Message): void {
    if (message.type === 'certificate') this.#note(peer, message.certificate);
    if (message.type === 'proposal') for (const each of message.justification) this.#note(peer, each);
  }

  #note(peer: VirtualPeer, { kind, height, view, block }: Certificate): void {
    if (kind === 'endorse') return;
    const place = `height ${height}, view ${view}`;
    this.#once(this.#certified, `${kind} ${place}`, block, `${kind} of ${place}, peer ${peer.index}`);
    const other = kind === 'finalize' ? 'nullify' : kind === 'nullify' ? 'finalize' : undefined;
    if (other && this.#certified.has(`${other} ${place}`)) {
      throw new Violation('agreement', `${place} is both nullified and finalized`);
    }
  }

  #once<Key, Value extends Hash | null>(known: Map<Key, Value>, key: Key, value: Value, where: string): void {
    const before = known.get(key);
    if (before === undefined) known.set(key, value);
    else if (before !== value) throw new Violation('agreement', `two for one: ${before} and ${value} (${where})`);
  }
}
