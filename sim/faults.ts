import { type RandomStream, randomStream } from '../protocol/random.ts';
import { faultsTolerated } from '../protocol/roster.ts';
import type { Kernel } from './kernel.ts';
import type { SimulatedNetwork } from './network.ts';
import type { Scenario } from './scenario.ts';
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
    const later = new Set(scenario.events.flatMap((event) => (event.do === 'join' ? event.peers : [])));
    for (const peer of this.#peers) if (!later.has(peer.index)) this.#startAt(0, peer);
    for (const event of scenario.events) this.#plan(event);
  }

  get toCome(): number {
    return this.#toCome;
  }

  /** A round is over: each peer is taken down with the chance of churn, but never more than the protocol tolerates. */
  onRound(lengthMs: number): void {
    if (this.#churn === 0) return;
    const down = this.#peers.filter((peer) => !peer.isUp && !peer.finished).length;
    let left = faultsTolerated(this.#peers.length) - down;
    for (const peer of this.#peers) {
      const draws = this.#random.unit() < this.#churn;
      const awayMs = (AWAY_ROUNDS.from + (AWAY_ROUNDS.to - AWAY_ROUNDS.from) * this.#random.unit()) * lengthMs;
      if (!draws || left <= 0 || !peer.isUp) continue;
      left--;
      // in the middle of the next round, not while the machine that reported is at it
      this.#kernel.after(this.#random.unit() * lengthMs, () => peer.crash());
      this.#startAt(this.#kernel.nowMs + lengthMs + awayMs, peer);
    }
  }

  #startAt(atMs: number, peer: VirtualPeer): void {
    this.#toCome++;
    this.#kernel.at(atMs, () => {
      this.#toCome--;
      peer.start();
    });
  }

  #plan(event: Scenario['events'][number]): void {
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
