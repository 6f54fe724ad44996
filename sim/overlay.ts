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
  /** neighbours that messages are relayed to, whoever of the two chose the other */
  readonly #mesh: Set<number>[];
  /** those that a peer chose itself */
  readonly #chosen: Set<number>[];
  /** peers that may have to choose, in the order in which that came up */
  readonly #choosing = new Set<number>();
  /** peers with a neighbour */
  #linked = 0;
  #trees = new Map<number, Tree>();
  /** scratch for growing a tree: the last tree that reached each peer, and the tree so far */
  readonly #reachedBy: Uint32Array;
  #growing = 0;
  readonly #order: Uint32Array;
  readonly #parents: Uint32Array;

  constructor(peers: number, random: RandomStream) {
    const sets = () => Array.from({ length: peers }, () => new Set<number>());
    [this.#neighbours, this.#mesh, this.#chosen] = [sets(), sets(), sets()];
    [this.#reachedBy, this.#order, this.#parents] = [
      new Uint32Array(peers),
      new Uint32Array(peers),
      new Uint32Array(peers),
    ];
    this.#random = random;
  }

  neighbours(peer: number): ReadonlySet<number> {
    return this.#neighbours[peer]!;
  }

  connected(a: number, b: number): boolean {
    return this.#neighbours[a]!.has(b);
  }

  link(a: number, b: number): void {
    this.#add(a, b);
    this.#add(b, a);
    this.#changed();
  }

  unlink(a: number, b: number): void {
    this.#remove(a, b);
    this.#remove(b, a);
    this.#changed();
  }

  /** Neighbours in the mesh. */
  meshDegree(peer: number): number {
    return this.#mesh[peer]!.size;
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
      this.#completeMesh();
      tree = this.#grow(author, flood);
      this.#trees.set(key, tree);
    }
    return tree;
  }

  #add(peer: number, other: number): void {
    const neighbours = this.#neighbours[peer]!;
    if (neighbours.size === 0) this.#linked++;
    neighbours.add(other);
    if (this.#chosen[peer]!.size < CHOSEN) this.#choosing.add(peer);
  }

  #remove(peer: number, other: number): void {
    const neighbours = this.#neighbours[peer]!;
    if (!neighbours.delete(other)) return;
    if (neighbours.size === 0) this.#linked--;
    this.#mesh[peer]!.delete(other);
    if (this.#chosen[peer]!.delete(other)) this.#choosing.add(peer);
  }

  #changed(): void {
    if (this.#trees.size > 0) this.#trees = new Map();
  }

  /** Every peer grafts half of the mesh's degree, so that each ends up with about the whole of it. */
  #completeMesh(): void {
    for (const peer of this.#choosing) {
      const chosen = this.#chosen[peer]!;
      const candidates = [...this.#neighbours[peer]!].filter((other) => !chosen.has(other));
      while (chosen.size < CHOSEN && candidates.length > 0) {
        const [other] = candidates.splice(this.#random.below(candidates.length), 1);
        chosen.add(other!);
        this.#mesh[peer]!.add(other!);
        this.#mesh[other!]!.add(peer);
      }
    }
    this.#choosing.clear();
  }

  #grow(author: number, flood: boolean): Tree {
    const [order, parents] = [this.#order, this.#parents];
    this.#growing++;
    this.#reachedBy[author] = this.#growing;
    let count = this.#spread(author, flood ? this.#neighbours[author]! : this.#mesh[author]!, 0);
    for (let i = 0; i < count; i++) count = this.#spread(order[i]!, this.#mesh[order[i]!]!, count);
    const lazyFrom = count;
    // hardly ever is anybody left
    if (count + 1 < this.#linked) count = this.#spread(author, this.#neighbours[author]!, count);
    for (let i = 0; i < count && count + 1 < this.#linked; i++) {
      count = this.#spread(order[i]!, this.#neighbours[order[i]!]!, count);
    }
    return { order: order.slice(0, count), parents: parents.slice(0, count), lazyFrom };
  }

  /** @returns how many are reached now */
  #spread(from: number, to: ReadonlySet<number>, count: number): number {
    let next = count;
    for (const peer of to) {
      if (this.#reachedBy[peer] === this.#growing) continue;
      this.#reachedBy[peer] = this.#growing;
      this.#order[next] = peer;
      this.#parents[next++] = from;
    }
    return next;
  }
}

const CHOSEN = NETWORK_PARAMETERS.meshDegree / 2;
