import { LIMITS } from '../../protocol/limits.ts';
import type { VirtualPeer } from '../virtual-peer.ts';
import { type Checker, Violation } from './checker.ts';

/** Looked at every so many steps. */
const EVERY = 16;
/** Rounds open and kept at once, each with one update a place, and what leaders propose besides. */
const ROUNDS_IN_MEMORY = LIMITS.payloadRoundsKept + 4;

/** Nothing that others can fill grows without bound. */
export class MemoryChecker implements Checker {
  readonly isOfOnePeer = true;
  readonly #peers: number;
  #steps = 0;

  /** @param peers that have an identity in this run; strangers are not among them */
  constructor(peers: number) {
    this.#peers = peers;
  }

  onStep(peer: VirtualPeer): void {
    if (this.#steps++ % EVERY !== 0 || !peer.machine) return;
    const load = { ...peer.machine.load, queuedEffects: peer.queuedEffects };
    const views = load.view + LIMITS.viewsAheadMax + 2;
    const bounds: Record<keyof typeof load, number> = {
      view: Number.POSITIVE_INFINITY,
      futureMessages: LIMITS.futureMessagesMax,
      futureBlocks: LIMITS.futureBlocksMax,
      payloads: 4 * ROUNDS_IN_MEMORY * this.#peers,
      joins: LIMITS.pendingJoinsMax,
      leaves: this.#peers,
      evidence: this.#peers,
      absent: this.#peers,
      reachable: this.#peers,
      views,
      // one a leader, one a certificate
      blocks: 2 * views,
      endorsers: this.#peers,
      endorsements: 3 * this.#peers,
      proposals: LIMITS.unfinalProposalsMax * this.#peers,
      // they wait for the disk, and after a pause for all that came meanwhile
      queuedEffects: 4096,
    };
    for (const name of Object.keys(bounds) as (keyof typeof load)[]) {
      if (load[name] <= bounds[name]) continue;
      throw new Violation(
        'memory',
        `peer ${peer.index} keeps ${load[name]} ${name}, at most ${bounds[name]} are right`,
      );
    }
  }
}
