import './polyfill.ts';
import type { PeerId } from '@libp2p/interface';
import { MemoryDatastore } from 'datastore-core/memory';
import { NET_LIMITS } from './limits.ts';

type Key = Parameters<MemoryDatastore['put']>[0];

/**
 * What libp2p notes of peers: of each that connects, before it has said hello, and for good. A key costs a stranger nothing, so
 * the oldest entries go, but for this peer's own and those of peers that are connected.
 */
export class PeerEntries extends MemoryDatastore {
  readonly #kept: () => readonly PeerId[];
  /** oldest first */
  readonly #names = new Map<string, Key>();

  constructor(kept: () => readonly PeerId[]) {
    super();
    this.#kept = kept;
  }

  get size(): number {
    return this.#names.size;
  }

  override put(key: Key, value: Uint8Array): Key {
    this.#names.delete(key.toString());
    this.#names.set(key.toString(), key);
    void super.put(key, value);
    if (this.size > NET_LIMITS.peerEntriesMax) this.#makeRoom();
    return key;
  }

  override delete(key: Key): void {
    this.#names.delete(key.toString());
    void super.delete(key);
  }

  /** Of more than may be connected at a time one at least is none of these. */
  #makeRoom(): void {
    const kept = new Set(this.#kept().map((peer) => peer.toCID().toString()));
    for (const [name, key] of this.#names) {
      if (!kept.has(name.slice(name.lastIndexOf('/') + 1))) return this.delete(key);
    }
  }
}
