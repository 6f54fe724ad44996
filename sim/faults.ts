import type { PeerId } from '../protocol/identity.ts';
import { type RandomStream, randomStream } from '../protocol/random.ts';
import { faultsTolerated } from '../protocol/roster.ts';
import type { Kernel } from './kernel.ts';
import type { SimulatedNetwork } from './network.ts';
import { datedPeers, type FaultEvent, type Scenario } from './scenario.ts';
import type { VirtualPeer } from './virtual-peer.ts';

/** A peer that churn took down is back after so many round lengths. */
const AWAY_ROUNDS = { from: 0.5, to: 2 };

/** Makes happen what a scenario says, and what churn draws from the seed. */
export class Faults {
  readonly #kernel: Kernel;
  readonly #network: SimulatedNetwork;
  readonly #peers: readonly VirtualPeer[];
  readonly #churn: number;
  readonly #random: RandomStream;
  /** whose comings and goings have times of their own: nothing is drawn for them */
  readonly #dated: ReadonlySet<number>;
  /** drawn by churn, and not back yet; some are still up */
  readonly #away = new Set<VirtualPeer>();
  /** planned comings: as long as there are any the run is not over, even with nobody up */
  #toCome = 0;

  constructor(
    components: { kernel: Kernel; network: SimulatedNetwork; peers: readonly VirtualPeer[] },
    { scenario, seed }: { scenario: Scenario; seed: number },
  ) {
    this.#kernel = components.kernel;
    this.#network = components.network;
    this.#peers = components.peers;
    this.#churn = scenario.churn;
    this.#random = randomStream(seed, 'churn');
    this.#dated = datedPeers(scenario.events);
    const later = new Set(scenario.events.flatMap((event) => (event.do === 'join' ? event.peers : [])));
    for (const peer of this.#peers) if (!later.has(peer.index)) this.#startAt(0, peer);
    for (const event of scenario.events) this.#plan(event);
  }

  get toCome(): number {
    return this.#toCome;
  }

  /**
   * A round is over: each member is taken down with the chance of churn, but never more of them than the protocol
   * tolerates, those included who are down for other reasons or have been drawn already.
   */
  onRound(lengthMs: number, roster: readonly PeerId[]): void {
    if (this.#churn === 0) return;
    const places = new Set(roster);
    const members = this.#peers.filter(({ id }) => places.has(id));
    const down = members.filter((peer) => !this.#isThere(peer)).length;
    const free = members.filter((peer) => this.#isThere(peer) && !this.#dated.has(peer.index));
    const drawn = free.filter(() => this.#random.unit() < this.#churn);
    for (const peer of someOf(drawn, faultsTolerated(members.length) - down, this.#random)) {
      const awayRounds = AWAY_ROUNDS.from + (AWAY_ROUNDS.to - AWAY_ROUNDS.from) * this.#random.unit();
      this.#away.add(peer);
      // in the middle of the next round, not while the machine that reported is at it
      this.#kernel.after(this.#random.unit() * lengthMs, () => peer.crash());
      this.#startAt(this.#kernel.nowMs + (1 + awayRounds) * lengthMs, peer);
    }
  }

  /** Up, and not about to go down. */
  #isThere(peer: VirtualPeer): boolean {
    return peer.isUp && !this.#away.has(peer);
  }

  #startAt(atMs: number, peer: VirtualPeer): void {
    this.#toCome++;
    this.#kernel.at(atMs, () => {
      this.#toCome--;
      this.#away.delete(peer);
      peer.start();
    });
  }

  #plan(event: FaultEvent): void {
    const each = (act: (peer: VirtualPeer) => void) => {
      if ('peers' in event) for (const peer of event.peers) this.#kernel.at(event.atMs, () => act(this.#peers[peer]!));
    };
    switch (event.do) {
      case 'join':
      case 'restart':
        for (const peer of event.peers) this.#startAt(event.atMs, this.#peers[peer]!);
        return;
      case 'leave':
        return each((peer) => peer.leave());
      case 'crash':
        return each((peer) => peer.crash());
      case 'pause':
        return each((peer) => peer.pause(event.forMs));
      case 'partition':
        this.#kernel.at(event.atMs, () => this.#network.partition(event.groups));
        return;
      case 'heal':
        this.#kernel.at(event.atMs, () => this.#network.partition([]));
        return;
      default:
        return event satisfies never;
    }
  }
}

/** So many at most, each as likely as the others. */
function someOf<T>(all: readonly T[], most: number, random: RandomStream): T[] {
  const some = [...all];
  while (some.length > Math.max(0, most)) some.splice(random.below(some.length), 1);
  return some;
}
