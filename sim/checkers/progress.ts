import type { VirtualPeer } from '../virtual-peer.ts';
import { Violation } from './checker.ts';

/** Final rounds that a healed swarm must get through. */
const ROUNDS_AFTER_HEALING = 3;

interface Standing {
  /** of the last final round that it reported */
  round: number;
}

/**
 * Once the swarm is healed (correct peers are up and reach each other, and at most f voters lie or are down) it goes on:
 * three more final rounds, on all of these peers, who are all members of the run.
 */
export class ProgressChecker {
  readonly #standing = new Map<number, Standing>();
  #goal = Number.POSITIVE_INFINITY;

  onFinalRound(peer: VirtualPeer, round: number): void {
    const { round: before = 0 } = this.#standing.get(peer.index) ?? {};
    this.#standing.set(peer.index, { round: Math.max(before, round) });
  }

  /** The last final round that anybody has reported. */
  get newest(): number {
    return Math.max(0, ...[...this.#standing.values()].map(({ round }) => round));
  }

  /** From now on the goal stands. */
  healed(): void {
    this.#goal = this.newest + ROUNDS_AFTER_HEALING;
  }

  /** Those who are not there yet. */
  behind(peers: readonly VirtualPeer[]): VirtualPeer[] {
    return peers.filter((peer) => {
      const { round } = this.#standing.get(peer.index) ?? { round: 0 };
      return round < this.#goal || !isIn(peer);
    });
  }

  /** @throws Violation */
  check(peers: readonly VirtualPeer[]): void {
    const behind = this.behind(peers);
    if (behind.length === 0) return;
    const lines = behind.map((peer) => {
      const { round = 0 } = this.#standing.get(peer.index) ?? {};
      const standing = peer.machine?.standing;
      const where = standing ? `at round ${standing.round}, ${standing.roster.length} in its roster` : 'down';
      return `peer ${peer.index}: last final round ${round}, ${where}${isIn(peer) ? '' : ', not a member'}`;
    });
    throw new Violation('progress', `after healing not all came to round ${this.#goal}: ${lines.join('; ')}`);
  }
}

/** Whether the peer is a member, as far as it knows. */
export function isIn(peer: VirtualPeer): boolean {
  return peer.machine?.standing.roster.includes(peer.id) ?? false;
}
