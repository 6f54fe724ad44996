import type { RandomStream } from '../protocol/random.ts';
import { NETWORK_PARAMETERS } from './gossip-parameters.ts';
import type { Kernel } from './kernel.ts';
import type { Ledger } from './ledger.ts';
import type { Links } from './links.ts';
import type { Overlay } from './overlay.ts';

export interface BroadcastComponents {
  kernel: Kernel;
  links: Links;
  overlay: Overlay;
  ledger: Ledger;
  random: RandomStream;
}

/**
 * Gossip as the real node does it, reduced to the first copy that reaches each peer: along a tree of the mesh, each hop
 * taking the link's latency and its turn on the sender's uplink. The copies that come later cost bytes on both sides (as
 * many as were measured) and no event. Control traffic has an uplink queue of its own and does not slow bulk transfers.
 */
export class Broadcasts {
  readonly #c: BroadcastComponents;
  /** milliseconds of sending that each peer's uplink has before it, as of `#asOfMs` */
  readonly #backlogMs: Float64Array;
  readonly #asOfMs: Float64Array;
  /** scratch: when a message reaches each peer */
  readonly #arrivals: Float64Array;

  constructor(components: BroadcastComponents, peers: number) {
    this.#c = components;
    this.#backlogMs = new Float64Array(peers);
    this.#asOfMs = new Float64Array(peers);
    this.#arrivals = new Float64Array(peers);
  }

  /** @param deliver called once for every peer that it reaches, at that time, with who handed it on */
  publish(author: number, size: number, deliver: (to: number, from: number) => void): void {
    const { kernel, overlay } = this.#c;
    const { floodBytesMax, gossipEnvelopeBytes, copiesAMeshNeighbour, heartbeatMs } = NETWORK_PARAMETERS;
    const flood = size <= floodBytesMax;
    const { order, parents, lazyFrom } = overlay.tree(author, flood);
    if (order.length === 0) return;
    const bytes = size + gossipEnvelopeBytes;
    this.#arrivals[author] = kernel.nowMs;
    for (let i = 0; i < order.length; i++) {
      const extraMs = i < lazyFrom ? 0 : heartbeatMs;
      this.#arrivals[order[i]!] = this.#hop(parents[i]!, order[i]!, bytes) + extraMs;
    }
    this.#account(order, parents, bytes, flood ? copiesAMeshNeighbour.flooded : copiesAMeshNeighbour.relayed);
    this.#deliverAll(order, parents, deliver);
  }

  /** What gossip has carried already goes to every neighbour directly, as on the real node. */
  repeat(author: number, size: number, deliver: (to: number, from: number) => void): void {
    const { kernel, overlay, ledger } = this.#c;
    const order = Uint32Array.from(overlay.neighbours(author));
    if (order.length === 0) return;
    const bytes = size + NETWORK_PARAMETERS.frameBytes;
    this.#arrivals[author] = kernel.nowMs;
    for (const to of order) {
      this.#arrivals[to] = this.#hop(author, to, bytes);
      ledger.move('direct', author, to, bytes);
    }
    this.#deliverAll(order, new Uint32Array(order.length).fill(author), deliver);
  }

  /** One message on one link. */
  send(from: number, to: number, size: number, deliver: () => void): void {
    const { kernel, ledger } = this.#c;
    const bytes = size + NETWORK_PARAMETERS.frameBytes;
    this.#arrivals[from] = kernel.nowMs;
    ledger.move('direct', from, to, bytes);
    kernel.at(this.#hop(from, to, bytes), deliver);
  }

  /** When a message that `from` has reaches `to`: it waits for the uplink, is sent, travels, and may meet a stall. */
  #hop(from: number, to: number, bytes: number): number {
    const { links, random } = this.#c;
    const sentMs = this.#arrivals[from]! + this.#takeUplink(from, bytes);
    const stalled = links.loss > 0 && random.unit() < links.stallChance(bytes);
    const stallMs = stalled ? links.stallMs(from, to) : 0;
    // cut-through: what the downlink takes longer than the uplink
    const downMs = Math.max(0, bytes / links.downloadRate(to) - bytes / links.uploadRate(from));
    return sentMs + downMs + links.oneWayMs(from, to) + stallMs;
  }

  /**
   * Queues bytes on a peer's uplink behind what it has to send already. A hop that lies ahead finds the queue shorter by
   * the time until then.
   * @returns how long after its arrival at the peer the message has left it
   */
  #takeUplink(peer: number, bytes: number): number {
    const { nowMs } = this.#c.kernel;
    const backlogMs = Math.max(0, this.#backlogMs[peer]! - (nowMs - this.#asOfMs[peer]!));
    const sendMs = bytes / this.#c.links.uploadRate(peer);
    this.#backlogMs[peer] = backlogMs + sendMs;
    this.#asOfMs[peer] = nowMs;
    return Math.max(0, backlogMs - (this.#arrivals[peer]! - nowMs)) + sendMs;
  }

  #account(order: Uint32Array, parents: Uint32Array, bytes: number, copiesAMeshNeighbour: number): void {
    const { ledger, overlay } = this.#c;
    const sent = ledger.sent.gossip;
    const received = ledger.received.gossip;
    for (let i = 0; i < order.length; i++) {
      const to = order[i]!;
      // with few neighbours there are few who could send a second copy
      const copies = Math.min(copiesAMeshNeighbour * overlay.meshDegree(to), overlay.neighbours(to).size);
      received[to]! += copies * bytes;
      sent[parents[i]!]! += bytes;
      // a further copy comes from another peer that has the message: on average from all alike
      sent[to]! += (copies - 1) * bytes;
      this.#takeUplink(to, (copies - 1) * bytes);
    }
  }

  /** One event in the heap for each message under way, not one for each peer that it is on the way to. */
  #deliverAll(order: Uint32Array, parents: Uint32Array, deliver: (to: number, from: number) => void): void {
    const { kernel } = this.#c;
    const times = Float64Array.from(order, (peer) => this.#arrivals[peer]!);
    const ranks = Uint32Array.from(order, (_, i) => i).sort((a, b) => times[a]! - times[b]! || a - b);
    let next = 0;
    const step = (): void => {
      const atMs = times[ranks[next]!]!;
      while (next < ranks.length && times[ranks[next]!]! === atMs) {
        const rank = ranks[next++]!;
        deliver(order[rank]!, parents[rank]!);
      }
      if (next < ranks.length) kernel.at(times[ranks[next]!]!, step);
    };
    kernel.at(times[ranks[0]!]!, step);
  }
}
