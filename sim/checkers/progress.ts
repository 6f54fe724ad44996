import type { Hash } from '../../protocol/hash.ts';
import type { VirtualPeer } from '../virtual-peer.ts';
import { Violation } from './checker.ts';

/** Final rounds that a healed swarm must get through. */
const ROUNDS_AFTER_HEALING = 3;
/** Rounds of any kind that those who are left must get through where no quorum is, and genesis lets them go on. */
const ROUNDS_WITHOUT_QUORUM = 2;
/** Rounds of any kind after which those who are healed decide together, and let in who is outside. */
const ROUNDS_TO_FIND_TOGETHER = 15;

interface Standing {
  /** of the last final round that it reported */
  round: number;
}

/**
 * Once the swarm is healed (correct peers are up and reach each other, and at most f voters lie or are down) it goes on:
 * three more final rounds, on all of these peers, who are all members of the run; or where the run ends, those who are members
 * then all come to its end, and where nobody lies to one state. Where those who are left are no quorum and nobody lies, the
 * members among them go on together, in unfinal rounds.
 */
export class ProgressChecker {
  /** of the run; null where it does not end */
  readonly #rounds: number | null;
  readonly #liars: number;
  readonly #standing = new Map<number, Standing>();
  /** by peer: the last round of any kind that it reported */
  readonly #reached = new Map<number, number>();
  #goal = Number.POSITIVE_INFINITY;
  /** by peer: the root after each round of any kind, as last reported */
  readonly #roots = new Map<number, Map<number, Hash>>();
  #goalWithout = Number.POSITIVE_INFINITY;
  /** where the run ends: the last round is so far away that those who are healed find together before */
  #hasTime = false;

  constructor({ rounds, liars }: { rounds: number | null; liars: number }) {
    this.#rounds = rounds;
    this.#liars = liars;
  }

  onFinalRound(peer: VirtualPeer, round: number): void {
    const { round: before = 0 } = this.#standing.get(peer.index) ?? {};
    this.#standing.set(peer.index, { round: Math.max(before, round) });
  }

  /** A round of any kind has ended for this peer. */
  onRound(peer: VirtualPeer, round: number, root: Hash): void {
    const roots = this.#roots.get(peer.index) ?? new Map<number, Hash>();
    this.#roots.set(peer.index, roots.set(round, root));
    this.#reached.set(peer.index, round);
  }

  /** What is not as it should be where no quorum is: members who do not go on, or not together. */
  apart(peers: readonly VirtualPeer[]): string | undefined {
    if (peers.some(({ machine }) => !machine)) return 'not all are up yet';
    // before the first round nobody has anything to go on with
    const members = peers.filter((peer) => isIn(peer) && peer.machine!.standing.places.length > 0);
    const reached = members.map(({ index }) => this.#reached.get(index) ?? 0);
    const least = Math.min(...reached);
    const at = members.map(({ index }, i) => `peer ${index} at round ${reached[i]}`).join(', ');
    if (least < this.#goalWithout) return `without a quorum not all members came to round ${this.#goalWithout}: ${at}`;
    const roots = new Set(members.map(({ index }) => this.#roots.get(index)!.get(least)));
    return roots.size > 1 ? `without a quorum members went on apart, at round ${least}: ${at}` : undefined;
  }

  /** The last final round that anybody has reported. */
  get newest(): number {
    return Math.max(0, ...[...this.#standing.values()].map(({ round }) => round));
  }

  /** How often the three rounds that it is about have to be waited for, until the goal is reached. */
  get stretches(): number {
    return Math.max(1, Math.ceil(((this.#rounds ?? this.#goal) - this.newest) / ROUNDS_AFTER_HEALING));
  }

  /** From now on the goal stands. */
  healed(peers: readonly VirtualPeer[]): void {
    this.#goal = this.newest + ROUNDS_AFTER_HEALING;
    const reached = Math.max(0, ...peers.map(({ index }) => this.#reached.get(index) ?? 0));
    if (this.#rounds !== null) this.#hasTime = reached + ROUNDS_TO_FIND_TOGETHER <= this.#rounds;
    this.#goalWithout = Math.min(reached + ROUNDS_WITHOUT_QUORUM, this.#rounds ?? Number.POSITIVE_INFINITY);
  }

  /** Those who are not there yet. */
  behind(peers: readonly VirtualPeer[]): VirtualPeer[] {
    return peers.filter((peer) => this.#isBehind(peer, peers));
  }

  #isBehind(peer: VirtualPeer, peers: readonly VirtualPeer[]): boolean {
    if (this.#rounds !== null && !this.#isThrough(peer)) return this.#hasTime || mayEnd(peer, peers);
    // of the last rounds a liar may keep some unfinal
    if (this.#rounds !== null && !this.#hasTime) return false;
    const { round } = this.#standing.get(peer.index) ?? { round: 0 };
    return round < this.#goal || !isIn(peer);
  }

  #isThrough({ finished, machine }: VirtualPeer): boolean {
    return finished && machine?.standing.round === this.#rounds;
  }

  /**
   * At which states the run ended, where there are several. That no quorum has decided on the end is no fault; nor that some have
   * another, where a liar kept them from hearing of it: what is final is for `agreement`.
   */
  endsApart(peers: readonly VirtualPeer[]): string | undefined {
    if (this.#liars > 0) return undefined;
    const there = peers.filter((peer) => this.#isThrough(peer));
    const roots = new Map(there.map(({ index, machine }) => [index, machine!.standing.root]));
    if (new Set(roots.values()).size <= 1) return undefined;
    const each = [...roots].map(([index, root]) => `peer ${index} at ${root}`).join(', ');
    return `the run ended at different states: ${each}`;
  }

  /** @throws Violation */
  check(peers: readonly VirtualPeer[]): void {
    const behind = this.behind(peers);
    if (behind.length === 0) {
      const apart = this.endsApart(peers);
      if (apart) throw new Violation('progress', apart);
      return;
    }
    const lines = behind.map((peer) => {
      const { round = 0 } = this.#standing.get(peer.index) ?? {};
      const standing = peer.machine?.standing;
      const where = standing ? `at round ${standing.round}, ${standing.roster.length} in its roster` : 'down';
      const through = this.#rounds === null || peer.finished ? '' : ', not through';
      return `peer ${peer.index}: last final round ${round}, ${where}${isIn(peer) ? '' : ', not a member'}${through}`;
    });
    const goal = this.#rounds ?? this.#goal;
    throw new Violation('progress', `after healing not all came to round ${goal}: ${lines.join('; ')}`);
  }
}

/** Who is not let in by the end of the run stays outside: members end, and nobody is there then to let it in. */
function mayEnd(peer: VirtualPeer, peers: readonly VirtualPeer[]): boolean {
  const ended = peers.filter(({ finished }) => finished);
  return ended.length === 0 || [peer, ...ended].some(({ machine }) => machine?.standing.roster.includes(peer.id));
}

/** Whether the peer is a member, as far as it knows. */
export function isIn(peer: VirtualPeer): boolean {
  return peer.machine?.standing.roster.includes(peer.id) ?? false;
}
