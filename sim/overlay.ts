import type { RandomStream } from '../protocol/random.ts';
import { NETWORK_PARAMETERS } from './gossip-parameters.ts';

/** How a message spreads from one author: peers in the order in which it can reach them, each with who hands it on. */
export interface Tree {
  order: Uint32Array;
  /** of `order[i]` */
  parents: Uint32Array;
  /** asked for after a heartbeat because no mesh path leads there: from this index on */
  lazyFrom: number;
}

/** Who is connected to whom, and the gossip mesh on top of that. */
export class Overlay {
  readonly #neighbours: Set<number>[];
  readonly #random: RandomStream;
  #mesh: number[][] | undefined;
  #trees = new Map<number, Tree>();

  constructor(peers: number, random: RandomStream) {
    this.#neighbours = Array.from({ length: peers }, () => new Set());
    this.#random = random;
  }

  neighbours(peer: number): ReadonlySet<number> {
    return this.#neighbours[peer]!;
  }

  connected(a: number, b: number): boolean {
    return this.#neighbours[a]!.has(b);
  }

  link(a: number, b: number): void {
    this.#neighbours[a]!.add(b);
    this.#neighbours[b]!.add(a);
    this.#changed();
  }

  unlink(a: number, b: number): void {
    this.#neighbours[a]!.delete(b);
    this.#neighbours[b]!.delete(a);
    this.#changed();
  }

  /** Neighbours in the mesh. */
  meshDegree(peer: number): number {
    return this.#meshed()[peer]!.length;
  }

  /** Whom a peer dials among those who are there: all of them, or as many as it wants connections. */
  choose(peer: number, present: readonly number[]): number[] {
    const others = present.filter((other) => other !== peer && !this.connected(peer, other));
    const wanted = NETWORK_PARAMETERS.connectionsWanted;
    for (let i = 0; i < Math.min(wanted, others.length - 1); i++) {
      const j = i + this.#random.below(others.length - i);
      [others[i], others[j]] = [others[j]!, others[i]!];
    }
    return others.slice(0, wanted).sort((a, b) => a - b);
  }

  /**
   * @param flood the author hands the message to all its neighbours, not only to those of the mesh
   */
  tree(author: number, flood: boolean): Tree {
    const key = 2 * author + Number(flood);
    let tree = this.#trees.get(key);
    if (!tree) {
      tree = this.#grow(author, flood);
      this.#trees.set(key, tree);
    }
    return tree;
  }

  #changed(): void {
    this.#mesh = undefined;
    if (this.#trees.size > 0) this.#trees = new Map();
  }

  #grow(author: number, flood: boolean): Tree {
    const mesh = this.#meshed();
    const order: number[] = [];
    const parents: number[] = [];
    const reached = new Set([author]);
    const spread = (from: number, to: Iterable<number>): void => {
      for (const peer of to) {
        if (reached.has(peer)) continue;
        reached.add(peer);
        order.push(peer);
        parents.push(from);
      }
    };
    spread(author, flood ? this.#neighbours[author]! : mesh[author]!);
    for (let i = 0; i < order.length; i++) spread(order[i]!, mesh[order[i]!]!);
    const lazyFrom = order.length;
    spread(author, this.#neighbours[author]!);
    for (let i = 0; i < order.length; i++) spread(order[i]!, this.#neighbours[order[i]!]!);
    return { order: Uint32Array.from(order), parents: Uint32Array.from(parents), lazyFrom };
  }

  /** Every peer grafts half of the mesh's degree, so that each ends up with about the whole of it. */
  #meshed(): number[][] {
    if (this.#mesh) return this.#mesh;
    const chosen = this.#neighbours.map(() => new Set<number>());
    for (const [peer, neighbours] of this.#neighbours.entries()) {
      const candidates = [...neighbours];
      const count = Math.min(candidates.length, NETWORK_PARAMETERS.meshDegree / 2);
      for (let i = 0; i < count; i++) {
        const j = i + this.#random.below(candidates.length - i);
        [candidates[i], candidates[j]] = [candidates[j]!, candidates[i]!];
        chosen[peer]!.add(candidates[i]!);
        chosen[candidates[i]!]!.add(peer);
      }
    }
    this.#mesh = chosen.map((set) => [...set]);
    return this.#mesh;
  }
}
