import type { PeerId } from '../protocol/identity.ts';
import { type RandomStream, randomStream } from '../protocol/random.ts';
import { faultsTolerated } from '../protocol/roster.ts';
import type { Kernel } from './kernel.ts';
import type { SimulatedNetwork } from './network.ts';
import { datedPeers, type FaultEvent, type Scenario, TOLERANT_PEERS_MIN } from './scenario.ts';
import type { VirtualPeer } from './virtual-peer.ts';

/** A peer that churn took down is back after so many round lengths. */
const AWAY_ROUNDS = { from: 0.5, to: 2 };

/** Makes happen what a scenario says, and what churn, leaves and joins draw from the seed. */
export class Faults {
  readonly #kernel: Kernel;
  readonly #network: SimulatedNetwork;
  readonly #peers: readonly VirtualPeer[];
  readonly #rates: Pick<Scenario, 'churn' | 'joins' | 'leaves'>;
  readonly #random: Record<'churn' | 'joins' | 'leaves', RandomStream>;
  /** whose comings and goings have times of their own: nothing is drawn for them */
  readonly #dated: ReadonlySet<number>;
  /** drawn by churn, and not back yet; some are still up */
  readonly #away = new Set<VirtualPeer>();
  /** drawn to leave, whether or not they have by now */
  readonly #leaving = new Set<VirtualPeer>();
  /** not there yet, until they are drawn to join */
  readonly #late = new Set<VirtualPeer>();
  /** planned comings: as long as there are any the run is not over, even with nobody up */
  #toCome = 0;
  #lastMs = 0;

  constructor(
    components: { kernel: Kernel; network: SimulatedNetwork; peers: readonly VirtualPeer[] },
    { scenario, seed }: { scenario: Scenario; seed: number },
  ) {
    this.#kernel = components.kernel;
    this.#network = components.network;
    this.#peers = components.peers;
    this.#rates = scenario;
    const stream = (name: string) => randomStream(seed, name);
    this.#random = { churn: stream('churn'), joins: stream('joins'), leaves: stream('leaves') };
    this.#dated = datedPeers(scenario.events);
    const later = new Set(scenario.events.flatMap((event) => (event.do === 'join' ? event.peers : [])));
    for (const peer of this.#peers) if (!later.has(peer.index)) this.#startAt(0, peer);
    for (const event of scenario.events) this.#plan(event);
  }

  get toCome(): number {
    return this.#toCome;
  }

  /** When the last that is planned happens, or is over: until then, no silence is for good. */
  get lastMs(): number {
    return this.#lastMs;
  }

  /**
   * A round is over: who crashes, leaves and joins in the next is drawn, never more than leaves the swarm able to go on,
   * those included who are down for other reasons or have been drawn already.
   */
  onRound(lengthMs: number, roster: readonly PeerId[]): void {
    const { churn, joins, leaves } = this.#rates;
    if (churn + joins + leaves === 0) return;
    const places = new Set(roster);
    const members = this.#peers.filter((peer) => places.has(peer.id) && !this.#leaving.has(peer));
    const free = members.filter((peer) => this.#isThere(peer) && !this.#dated.has(peer.index));
    const down = members.filter((peer) => !this.#isThere(peer)).length;
    const crashing = this.#draw('churn', free, faultsTolerated(members.length) - down);
    for (const peer of crashing) this.#takeDown(peer, lengthMs);
    const enough = Math.max(TOLERANT_PEERS_MIN, 3 * (down + crashing.length) + 1);
    const staying = free.filter((peer) => this.#isThere(peer));
    for (const peer of this.#draw('leaves', staying, members.length - enough)) {
      this.#leaving.add(peer);
      this.#kernel.after(this.#random.leaves.unit() * lengthMs, () => peer.leave());
    }
    const waiting = this.#peers.filter((peer) => this.#late.has(peer) || (this.#leaving.has(peer) && peer.finished));
    for (const peer of this.#draw('joins', waiting, waiting.length)) {
      for (const set of [this.#late, this.#leaving]) set.delete(peer);
      peer.finished = false;
      this.#startAt(this.#kernel.nowMs + this.#random.joins.unit() * lengthMs, peer);
    }
  }

  /** Each with the chance of its kind; of more than may be, any so many. */
  #draw(kind: 'churn' | 'joins' | 'leaves', among: readonly VirtualPeer[], most: number): VirtualPeer[] {
    const random = this.#random[kind];
    const drawn = among.filter(() => random.unit() < this.#rates[kind]);
    while (drawn.length > Math.max(0, most)) drawn.splice(random.below(drawn.length), 1);
    return drawn;
  }

  /** In the middle of the next round, not while the machine that reported is at it; and back a while after. */
  #takeDown(peer: VirtualPeer, lengthMs: number): void {
    const random = this.#random.churn;
    const awayRounds = AWAY_ROUNDS.from + (AWAY_ROUNDS.to - AWAY_ROUNDS.from) * random.unit();
    this.#away.add(peer);
    this.#kernel.after(random.unit() * lengthMs, () => peer.crash());
    this.#startAt(this.#kernel.nowMs + (1 + awayRounds) * lengthMs, peer);
  }

  /** Up, and not about to go down. */
  #isThere(peer: VirtualPeer): boolean {
    return peer.isUp && !this.#away.has(peer);
  }

  #startAt(atMs: number, peer: VirtualPeer): void {
    if (atMs === Number.POSITIVE_INFINITY) {
      this.#late.add(peer);
      return;
    }
    this.#toCome++;
    this.#lastMs = Math.max(this.#lastMs, atMs);
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
    const endMs = event.atMs + (event.do === 'pause' ? event.forMs : 0);
    if (endMs !== Number.POSITIVE_INFINITY) this.#lastMs = Math.max(this.#lastMs, endMs);
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
