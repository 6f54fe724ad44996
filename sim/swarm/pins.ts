import type { Head } from '../../protocol/chain.ts';
import type { Hash } from '../../protocol/hash.ts';
import { blockHash } from '../../protocol/signing.ts';
import type { Chronicle } from '../checkers/chronicle.ts';
import type { VirtualPeer } from '../virtual-peer.ts';
import type { Plan } from './plan.ts';

export interface PinsComponents {
  chronicle: Chronicle;
  /** by index: where the longest certified history stands that a correct peer had */
  newest: ReadonlyMap<number, Head>;
}

/** The blocks that users name as ones to trust, each for a peer of its own. */
export class Pins {
  readonly #c: PinsComponents;
  readonly #plan: Pick<Plan, 'pinned' | 'segmentBlocks'>;
  readonly #pins = new Map<number, Hash>();

  constructor(components: PinsComponents, plan: Pick<Plan, 'pinned' | 'segmentBlocks'>) {
    this.#c = components;
    this.#plan = plan;
  }

  /**
   * What is named at a start: a block of the peer's own history, and the same one from then on; of anybody's, where all is kept.
   * Not one of the newest: those may be gone with the last who had them.
   */
  at(peer: number): Hash | undefined {
    if (!this.#plan.pinned.includes(peer)) return undefined;
    const { newest } = this.#c;
    const head = newest.get(peer) ?? (this.#plan.segmentBlocks === null ? [...newest.values()].at(-1) : undefined);
    if (!this.#pins.has(peer) && head) this.#name(peer, head);
    return this.#pins.get(peer);
  }

  /**
   * Where none of the others keeps the block any more, a newer one of theirs is named at the next start: but to who has been past
   * it, and is not to need it again.
   * @returns whether that is so
   */
  renew({ index: peer, machine }: VirtualPeer, others: readonly VirtualPeer[]): boolean {
    const pin = this.#pins.get(peer);
    if (!pin || !machine || machine.standing.round > this.#roundOf(pin)) return false;
    if (others.some((other) => this.#keeps(other, pin))) return false;
    const heads = others.flatMap(({ index }) => this.#c.newest.get(index) ?? []);
    const [newest] = heads.sort((a, b) => b.height - a.height);
    const named = newest && this.#name(peer, newest);
    return named !== undefined && named !== pin;
  }

  /** One that is about to be there may have it on its disk. */
  #keeps({ machine }: VirtualPeer, pin: Hash): boolean {
    if (!machine) return true;
    const { height } = this.#c.chronicle.get(pin)!.entry.block;
    const { entries } = machine.history({ fromHeight: height - 1, skip: 0, anchors: 0 });
    return entries.some(({ block }) => blockHash(block) === pin);
  }

  #roundOf(pin: Hash): number {
    return this.#c.chronicle.get(pin)!.entry.block.round;
  }

  #name(peer: number, { tip }: Head): Hash | undefined {
    const certified = [...this.#c.chronicle.back(tip)].filter(({ entry }) => entry.block.members === null);
    const pin = certified[2]?.hash;
    if (pin) this.#pins.set(peer, pin);
    return pin;
  }
}
