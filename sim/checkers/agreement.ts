import type { Effect, Event } from '../../protocol/events.ts';
import type { Hash } from '../../protocol/hash.ts';
import type { Segment } from '../../protocol/history.ts';
import type { Message } from '../../protocol/messages.ts';
import { blockHash } from '../../protocol/signing.ts';
import type { Certificate } from '../../protocol/wire.ts';
import type { VirtualPeer } from '../virtual-peer.ts';
import { type Checker, Violation } from './checker.ts';

/**
 * No two certified blocks of a height, no two final roots of a round, on any peers, ever. And what that follows from: no
 * two notarized blocks of a view, no view that is both nullified and finalized, and no block notarized after another one
 * was finalized.
 */
export class AgreementChecker implements Checker {
  readonly #decided = new Map<number, Hash>();
  readonly #roots = new Map<number, Hash>();
  /** who has a block in its history: what one peer alone had, and a crash took before it was durable, never was */
  readonly #holders = new Map<Hash, Set<number>>();
  readonly #certified = new Map<string, Hash | null>();
  /** by height, then by view */
  readonly #locks = new Map<number, { notarized: Map<number, Hash>; finalized: Map<number, Hash> }>();

  onStep(peer: VirtualPeer, event: Event, effects: readonly Effect[]): void {
    if (event.type === 'start') this.#onStart(peer.index, event.restart?.segments ?? []);
    for (const effect of effects) {
      if (effect.type === 'append' && effect.entry.block.members === null) {
        const { block, certificate } = effect.entry;
        this.#noteLock(certificate);
        const { height } = block;
        const hash = blockHash(block);
        this.#once(this.#decided, height, hash, `height ${height}, peer ${peer.index}`);
        this.#holders.set(hash, (this.#holders.get(hash) ?? new Set()).add(peer.index));
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

  #onStart(peer: number, segments: readonly Segment[]): void {
    const blocks = segments.flatMap(({ entries }) => entries).map(({ block }) => block);
    const durable = new Set(blocks.map(blockHash));
    const begins = blocks[0]?.height ?? 0;
    for (const [height, hash] of this.#decided) {
      const holders = this.#holders.get(hash);
      // what came before that was forgotten, not lost
      if (height < begins || durable.has(hash) || !holders?.delete(peer) || holders.size > 0) continue;
      this.#decided.delete(height);
    }
  }

  #note(peer: VirtualPeer, { kind, height, view, block }: Certificate): void {
    if (kind === 'endorse') return;
    this.#noteLock({ kind, height, view, block });
    const place = `height ${height}, view ${view}`;
    this.#once(this.#certified, `${kind} ${place}`, block, `${kind} of ${place}, peer ${peer.index}`);
    const other = kind === 'finalize' ? 'nullify' : kind === 'nullify' ? 'finalize' : undefined;
    if (other && this.#certified.has(`${other} ${place}`)) {
      throw new Violation('agreement', `${place} is both nullified and finalized`);
    }
  }

  /** What is finalized in a view is all that later views can notarize. */
  #noteLock({ kind, height, view, block }: Pick<Certificate, 'kind' | 'height' | 'view' | 'block'>): void {
    if (block === null || kind === 'endorse') return;
    const known = this.#locks.get(height) ?? { notarized: new Map(), finalized: new Map() };
    this.#locks.set(height, known);
    known[kind === 'finalize' ? 'finalized' : 'notarized'].set(view, block);
    for (const [first, decided] of known.finalized) {
      for (const [later, other] of known.notarized) {
        if (later < first || other === decided) continue;
        throw new Violation(
          'agreement',
          `height ${height}: finalized in view ${first}, another block in view ${later}`,
        );
      }
    }
  }

  #once<Key, Value extends Hash | null>(known: Map<Key, Value>, key: Key, value: Value, where: string): void {
    const before = known.get(key);
    if (before === undefined) known.set(key, value);
    else if (before !== value) throw new Violation('agreement', `two for one: ${before} and ${value} (${where})`);
  }
}
