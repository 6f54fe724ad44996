import type { RandomStream } from '../protocol/random.ts';
import { Backlog } from './backlog.ts';
import { NETWORK_PARAMETERS } from './gossip-parameters.ts';
import type { Inboxes, Sending } from './inbox.ts';
import type { Kernel } from './kernel.ts';
import type { Ledger } from './ledger.ts';
import type { Links } from './links.ts';
import type { Overlay, Tree } from './overlay.ts';

export interface BroadcastComponents {
  kernel: Kernel;
  links: Links;
  overlay: Overlay;
  ledger: Ledger;
  inboxes: Inboxes;
  random: RandomStream;
}

/** What a tree's messages cost, worked out when the first one takes that way. */
interface Costs {
  /** from who hands it on to `order[i]`, without what bandwidth and loss add */
  delayMs: Float64Array;
  /** from the author to `order[i]`, likewise */
  offsetMs: Float64Array;
  /** of the message that `order[i]` receives, the first included */
  copies: Float64Array;
}

/**
 * Gossip as the real node does it, reduced to the first copy that reaches each peer: along a tree of the mesh, each hop
 * taking the link's latency and its turn on the sender's uplink and the receiver's downlink. The copies that come later
 * cost bytes and time of both lines (as many as were measured) and no event. Control traffic has queues of its own and does
 * not slow bulk transfers.
 */
export class Broadcasts {
  readonly #c: BroadcastComponents;
  readonly #costs = new WeakMap<Tree, Costs>();
  readonly #uplinks: Backlog;
  readonly #downlinks: Backlog;
  /** scratch: when a message reaches each peer */
  readonly #arrivals: Float64Array;

  constructor(components: BroadcastComponents, peers: number) {
    this.#c = components;
    this.#uplinks = new Backlog(components.kernel, peers);
    this.#downlinks = new Backlog(components.kernel, peers);
    this.#arrivals = new Float64Array(peers);
  }

  /** To everybody that it reaches, once each, with who handed it on. */
  publish(author: number, sending: Sending): void {
    const { kernel, overlay, links, inboxes } = this.#c;
    const { number, size } = sending;
    const { floodBytesMax, gossipEnvelopeBytes } = NETWORK_PARAMETERS;
    const flood = size <= floodBytesMax;
    const tree = overlay.tree(author, flood);
    const { order, parents } = tree;
    if (order.length === 0) return;
    const bytes = size + gossipEnvelopeBytes;
    const costs = this.#costsOf(author, tree, flood);
    if (!links.areUnbounded) this.#travel(author, tree, costs, bytes);
    this.#account(tree, costs, bytes);
    const { offsetMs } = costs;
    inboxes.announce(sending, order.length);
    for (let i = 0; i < order.length; i++) {
      const to = order[i]!;
      const atMs = links.areUnbounded ? kernel.nowMs + offsetMs[i]! : this.#arrivals[to]!;
      inboxes.put(to, atMs, number, parents[i]!, false);
    }
  }

  /** One message on one link. */
  send(from: number, to: number, sending: Sending): void {
    const { kernel, ledger, links, inboxes } = this.#c;
    const bytes = sending.size + NETWORK_PARAMETERS.frameBytes;
    this.#arrivals[from] = kernel.nowMs;
    ledger.move('direct', from, to, bytes);
    inboxes.announce(sending, 1);
    inboxes.put(to, this.#hop(from, to, bytes, links.oneWayMs(from, to)), sending.number, from, true);
  }

  #costsOf(author: number, tree: Tree, flood: boolean): Costs {
    const known = this.#costs.get(tree);
    if (known) return known;
    const { links, overlay } = this.#c;
    const { order, parents, lazyFrom } = tree;
    const { copiesAMeshNeighbour } = NETWORK_PARAMETERS;
    const aNeighbour = flood ? copiesAMeshNeighbour.flooded : copiesAMeshNeighbour.relayed;
    const costs = {
      delayMs: new Float64Array(order.length),
      offsetMs: new Float64Array(order.length),
      // with few neighbours there are few who could send a second copy
      copies: Float64Array.from(order, (to) =>
        Math.min(aNeighbour * overlay.meshDegree(to), overlay.neighbours(to).size),
      ),
    };
    this.#arrivals[author] = 0;
    for (const [i, to] of order.entries()) {
      const heartbeatMs = i < lazyFrom ? 0 : NETWORK_PARAMETERS.heartbeatMs;
      costs.delayMs[i] = links.oneWayMs(parents[i]!, to) + heartbeatMs;
      costs.offsetMs[i] = this.#arrivals[parents[i]!]! + costs.delayMs[i]!;
      this.#arrivals[to] = costs.offsetMs[i]!;
    }
    this.#costs.set(tree, costs);
    return costs;
  }

  #travel(author: number, { order, parents }: Tree, { delayMs }: Costs, bytes: number): void {
    this.#arrivals[author] = this.#c.kernel.nowMs;
    for (let i = 0; i < order.length; i++) {
      this.#arrivals[order[i]!] = this.#hop(parents[i]!, order[i]!, bytes, delayMs[i]!);
    }
  }

  /**
   * When a message that `from` has reaches `to`: it waits for the uplink, is sent, waits for the downlink, travels, and may
   * meet a stall. Cut-through: the downlink begins with the first byte. Its queue is reckoned before the way, so that what
   * leaves together comes one after the other.
   */
  #hop(from: number, to: number, bytes: number, delayMs: number): number {
    const { links, random } = this.#c;
    const sendMs = bytes / links.uploadRate(from);
    const sentMs = this.#uplinks.take(from, this.#arrivals[from]!, sendMs);
    const throughMs = this.#downlinks.take(to, sentMs - sendMs, bytes / links.downloadRate(to));
    const stalled = links.loss > 0 && random.unit() < links.stallChance(bytes);
    const stallMs = stalled ? links.stallMs(from, to) : 0;
    return Math.max(sentMs, throughMs) + delayMs + stallMs;
  }

  #account({ order, parents }: Tree, { copies }: Costs, bytes: number): void {
    const { kernel, ledger, links } = this.#c;
    const sent = ledger.sent.gossip;
    const received = ledger.received.gossip;
    for (let i = 0; i < order.length; i++) {
      const to = order[i]!;
      const further = (copies[i]! - 1) * bytes;
      received[to]! += bytes + further;
      sent[parents[i]!]! += bytes;
      // a further copy comes from another peer that has the message: on average from all alike
      sent[to]! += further;
      if (links.areUnbounded) continue;
      this.#uplinks.take(to, kernel.nowMs, further / links.uploadRate(to));
      this.#downlinks.take(to, kernel.nowMs, further / links.downloadRate(to));
    }
  }
}
