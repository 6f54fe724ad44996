import type { PeerId } from '../../protocol/identity.ts';
import { networkError } from './errors.ts';
import { NET_LIMITS } from './limits.ts';

export type PeerChange = 'up' | 'down';

export interface Member {
  /** where others can dial it, as it says and as we found; checked, at most `addressesPerPeerMax` */
  addresses: readonly string[];
  /** name and version of its program, printable */
  software: string;
  /** the connection it said hello on */
  connection: string;
}

export interface MembersInit {
  /** that `admitted` waits @default NET_LIMITS.helloMs */
  helloMs?: number;
  /** of the run's peers, not a stranger, who costs nothing @default nobody is */
  isInRoster?: (peer: PeerId) => boolean;
}

interface Waiter {
  resolve: () => void;
  reject: (error: Error) => void;
}

/**
 * The peers that are connected and have passed hello. Everything else in this folder asks here before it serves,
 * listens to or believes a peer. Bounded by the host's connection limit: a member always has a connection.
 */
export class Members {
  readonly #members = new Map<PeerId, Member>();
  readonly #waiting = new Map<PeerId, Set<Waiter>>();
  readonly #listeners: ((peer: PeerId, change: PeerChange) => void)[] = [];
  readonly #helloMs: number;
  readonly #isInRoster: (peer: PeerId) => boolean;

  constructor({ helloMs = NET_LIMITS.helloMs, isInRoster = () => false }: MembersInit = {}) {
    this.#helloMs = helloMs;
    this.#isInRoster = isInRoster;
  }

  get size(): number {
    return this.#members.size;
  }

  has(peer: PeerId): boolean {
    return this.#members.has(peer);
  }

  get(peer: PeerId): Member | undefined {
    return this.#members.get(peer);
  }

  /** in the order of their arrival */
  list(): PeerId[] {
    return [...this.#members.keys()];
  }

  isInRoster(peer: PeerId): boolean {
    return this.#isInRoster(peer);
  }

  /** how many of those who are connected are in no roster */
  strangers(): number {
    return this.list().filter((peer) => !this.#isInRoster(peer)).length;
  }

  onChange(listener: (peer: PeerId, change: PeerChange) => void): void {
    this.#listeners.push(listener);
  }

  /** A second hello changes nothing, unless who is there has been removed before. */
  admit(peer: PeerId, member: Member): void {
    if (this.#members.has(peer)) return;
    this.#members.set(peer, member);
    for (const { resolve } of this.#waiting.get(peer) ?? []) resolve();
    this.#waiting.delete(peer);
    for (const listener of this.#listeners) listener(peer, 'up');
  }

  /** The last connection to that peer is gone. */
  remove(peer: PeerId): void {
    const error = networkError('E_NOT_CONNECTED', `${peer} has disconnected`);
    for (const { reject } of this.#waiting.get(peer) ?? []) reject(error);
    this.#waiting.delete(peer);
    if (!this.#members.delete(peer)) return;
    for (const listener of this.#listeners) listener(peer, 'down');
  }

  /** Everybody goes, also who still waits. */
  clear(): void {
    for (const peer of [...this.#waiting.keys(), ...this.#members.keys()]) this.remove(peer);
  }

  /**
   * Resolves when the peer is a member. Streams may overtake the hello, since each side decides for itself when the
   * other is in; they wait here.
   * @throws CodedError `E_NO_HELLO` after `helloMs`, `E_NOT_CONNECTED`
   */
  admitted(peer: PeerId): Promise<void> {
    if (this.#members.has(peer)) return Promise.resolve();
    const waiters = this.#waiting.get(peer) ?? new Set<Waiter>();
    this.#waiting.set(peer, waiters);
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        resolve: () => {
          clearTimeout(timer);
          resolve();
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      };
      const timer = setTimeout(() => {
        waiters.delete(waiter);
        if (waiters.size === 0) this.#waiting.delete(peer);
        waiter.reject(networkError('E_NO_HELLO', `${peer} said no hello within ${this.#helloMs / 1000} s`));
      }, this.#helloMs);
      waiters.add(waiter);
    });
  }
}
