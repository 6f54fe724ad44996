import { createHash } from 'node:crypto';
import { blobIdOf } from '../../protocol/blob.ts';
import type { Effect, Event } from '../../protocol/events.ts';
import type { Hash } from '../../protocol/hash.ts';
import type { History } from '../../protocol/messages.ts';
import type { BlobLibrary } from '../blob-library.ts';
import type { VirtualPeer } from '../virtual-peer.ts';
import { type Checker, Violation } from './checker.ts';

/**
 * One block, one state: whoever applies it, is restored to it or serves it has the same bytes, and they hash to the
 * name that is given.
 */
export class SnapshotsChecker implements Checker {
  readonly #library: BlobLibrary;
  readonly #run: Hash;
  /** by the block that leads to it */
  readonly #snapshots = new Map<Hash, Hash>();
  /** snapshots of states that some correct peer came to */
  readonly #known = new Set<Hash>();
  /** what a peer is being restored to, and the name that was asked for */
  readonly #target = new Map<number, { block: Hash; snapshot?: Hash }>();
  readonly #sound = new Set<Hash>();

  constructor(components: { library: BlobLibrary; run: Hash }) {
    this.#library = components.library;
    this.#run = components.run;
  }

  onStep(peer: VirtualPeer, event: Event, effects: readonly Effect[]): void {
    if (event.type === 'start') {
      this.#target.delete(peer.index);
      // the disk may have finished a state just when the process went
      for (const { block, state } of event.restart?.states ?? []) this.#came(peer, block, state.snapshot);
    }
    if (event.type === 'applied') this.#came(peer, event.block, event.snapshot);
    if (event.type === 'restored' && event.error === null) {
      const target = this.#target.get(peer.index);
      if (target?.snapshot !== undefined && target.snapshot !== event.snapshot) {
        throw new Violation('snapshots', `peer ${peer.index} asked for ${target.snapshot} and got ${event.snapshot}`);
      }
      if (target) this.#came(peer, target.block, event.snapshot);
    }
    for (const effect of effects) {
      if (effect.type === 'initialize') this.#target.set(peer.index, { block: this.#run });
      if (effect.type === 'restore') {
        this.#target.set(peer.index, { block: effect.block, snapshot: effect.state.snapshot });
      }
    }
  }

  onAnswer(peer: VirtualPeer, { states }: History): void {
    for (const { snapshot, round } of states) {
      const held = this.#library.has(peer.index, snapshot);
      if (!held || !this.#known.has(snapshot)) {
        throw new Violation('snapshots', `peer ${peer.index} offers a state of round ${round} that it does not have`);
      }
    }
  }

  #came(peer: VirtualPeer, block: Hash, snapshot: Hash): void {
    const known = this.#snapshots.get(block);
    if (known !== undefined && known !== snapshot) {
      throw new Violation(
        'snapshots',
        `two states after block ${block}: ${known} and, on peer ${peer.index}, ${snapshot}`,
      );
    }
    this.#snapshots.set(block, snapshot);
    this.#known.add(snapshot);
    if (this.#sound.has(snapshot)) return;
    const bytes = this.#library.bytes(snapshot);
    if (!bytes || blobIdOf(bytes, (each) => createHash('sha256').update(each).digest()) !== snapshot) {
      throw new Violation('snapshots', `the state of peer ${peer.index} does not hash to its name ${snapshot}`);
    }
    this.#sound.add(snapshot);
  }
}
