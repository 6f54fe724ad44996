import { createHash } from 'node:crypto';
import type { Hash } from '../protocol/hash.ts';
import type { Signer } from '../protocol/identity.ts';
import { decodeMessage, encodeMessage, type Message } from '../protocol/messages.ts';
import { type RandomStream, randomStream } from '../protocol/random.ts';
import { BlobFetches, type FetchRequest } from './blob-fetch.ts';
import { Broadcasts } from './broadcast.ts';
import { NETWORK_PARAMETERS } from './gossip-parameters.ts';
import { type Batch, Inboxes, type Sending } from './inbox.ts';
import type { Kernel } from './kernel.ts';
import type { Ledger } from './ledger.ts';
import type { Links } from './links.ts';
import { Overlay } from './overlay.ts';
import { Seen } from './seen.ts';
import { Transfers } from './transfers.ts';

/** A peer as its connections see it. Peers are named by index here; their ids are the protocol's. */
export interface Endpoint {
  /** the lists of the batch are used again: what is to be kept of them must be copied */
  onMessages(batch: Batch): void;
  onConnection(peer: number, up: boolean): void;
  /** part 0 is the first chunk, -1 the manifest */
  hasPart(blob: Hash, part: number): boolean;
  /** how long it stands still yet */
  readonly pauseLeftMs?: number;
}

export interface NetworkComponents {
  kernel: Kernel;
  links: Links;
  ledger: Ledger;
  /** checks what is sent, once for all who receive it */
  signer: Signer;
  /** a message that was never sent before, before anybody has it */
  onNew: (message: Message) => void;
}

export interface NetworkInit {
  peers: number;
  /** of links and connections */
  seed: number;
  run: Hash;
  /** between two reads of a peer, at least */
  readMs: number;
}

/** What is answered, encoded: at once that there is nothing yet, by who has just been started; undefined where nobody does. */
export type Reply = (answer: Uint8Array | 'not ready' | undefined) => void;

/** What a virtual peer needs of a network; another one may stand in. */
export type PeerNetwork = Pick<SimulatedNetwork, 'attach' | 'detach' | 'broadcast' | 'send' | 'request' | 'fetch'>;

/** Everything between the peers: connections, gossip, direct messages, questions and blobs, each in its virtual time. */
export class SimulatedNetwork {
  readonly #c: NetworkComponents;
  readonly #run: Hash;
  readonly #random: RandomStream;
  readonly #overlay: Overlay;
  readonly #inboxes: Inboxes;
  readonly #broadcasts: Broadcasts;
  readonly #transfers: Transfers;
  readonly #blobs: BlobFetches;
  readonly #endpoints: (Endpoint | undefined)[];
  /** which part of a partition a peer is in; all in 0 when there is none */
  readonly #sides: Uint8Array;
  /** counts a peer's lives, so that a dial does not reach its next one */
  readonly #lives: Uint32Array;
  readonly #seen = new Seen();
  /** encoded, decoded and checked once, however often it is said and to how many */
  readonly #sayable = new WeakMap<Message, { name: string; received: Message; size: number }>();
  #messages = 0;

  constructor(components: NetworkComponents, init: NetworkInit) {
    const { kernel, links, ledger } = components;
    const { peers, seed, run, readMs } = init;
    this.#c = components;
    this.#run = run;
    this.#random = randomStream(seed, 'network');
    this.#overlay = new Overlay(peers, randomStream(seed, 'overlay'));
    const overlay = this.#overlay;
    const connected = (from: number, to: number) => overlay.connected(from, to);
    const onRead = (peer: number, batch: Batch) => this.#endpoints[peer]?.onMessages(batch);
    this.#inboxes = new Inboxes({ kernel, connected, onRead }, { peers, everyMs: readMs });
    const random = randomStream(seed, 'loss');
    this.#broadcasts = new Broadcasts({ kernel, links, ledger, overlay, inboxes: this.#inboxes, random }, peers);
    this.#transfers = new Transfers(kernel, links, (carried) => ledger.carry(carried));
    const hasPart = (peer: number, blob: Hash, part: number) => this.#endpoints[peer]?.hasPart(blob, part) ?? false;
    const neighbours = (peer: number) => this.#overlay.neighbours(peer);
    this.#blobs = new BlobFetches({ kernel, links, ledger, transfers: this.#transfers, neighbours, hasPart });
    this.#endpoints = Array.from({ length: peers });
    this.#sides = new Uint8Array(peers);
    this.#lives = new Uint32Array(peers);
  }

  /** Messages read so far: one that reaches n peers counts n times. */
  get deliveries(): number {
    return this.#inboxes.read;
  }

  neighbours(peer: number): ReadonlySet<number> {
    return this.#overlay.neighbours(peer);
  }

  /** The peer is there: it dials others, who see it a handshake later. */
  attach(peer: number, endpoint: Endpoint): void {
    this.#endpoints[peer] = endpoint;
    this.#lives[peer]!++;
    for (const other of this.#overlay.choose(peer, this.#present(peer))) this.#dial(peer, other, 0);
  }

  /** The process is gone: its connections break, and the others learn of it one latency later. */
  detach(peer: number): void {
    this.#endpoints[peer] = undefined;
    this.#lives[peer]!++;
    this.#inboxes.clear(peer);
    for (const other of [...this.#overlay.neighbours(peer)]) {
      this.#disconnect(peer, other);
      this.#tell(other, peer, false, this.#c.links.oneWayMs(peer, other));
    }
  }

  /**
   * Cuts the swarm into parts that do not reach each other; none heals it. Peers that no group names are in the first.
   */
  partition(groups: readonly (readonly number[])[]): void {
    this.#sides.fill(0);
    for (const [side, group] of groups.entries()) for (const peer of group) this.#sides[peer] = side;
    for (const peer of this.#sides.keys()) {
      for (const other of [...this.#overlay.neighbours(peer)]) {
        if (other < peer || this.#sides[peer] === this.#sides[other]) continue;
        this.#disconnect(peer, other);
        for (const [a, b] of [[peer, other] as const, [other, peer] as const]) {
          this.#tell(a, b, false, NETWORK_PARAMETERS.cutNoticedMs);
        }
      }
    }
    for (const peer of this.#sides.keys()) {
      if (!this.#endpoints[peer]) continue;
      for (const other of this.#overlay.choose(peer, this.#present(peer))) {
        if (other > peer) this.#dial(peer, other, this.#random.unit() * NETWORK_PARAMETERS.redialMsMax);
      }
    }
  }

  /**
   * Publishes a message to everybody. For two minutes gossip takes the same bytes no more; then, as on the real node, they
   * go to each neighbour directly.
   */
  broadcast(from: number, message: Message): void {
    const wasSaid = this.#wasSaid(from, this.#sayableOf(message).name);
    if (!wasSaid) return this.#broadcasts.publish(from, this.#sending(message));
    for (const to of this.#overlay.neighbours(from)) this.#broadcasts.send(from, to, this.#sending(message));
  }

  /** Without a connection it goes nowhere, as on the real node. */
  send(from: number, to: number, message: Message): void {
    if (this.#overlay.connected(from, to)) this.#broadcasts.send(from, to, this.#sending(message));
  }

  /**
   * Asks a peer something and hears the answer, which travels as a transfer of its size.
   * @param answer has the other side reply; called when the question is there
   * @param done the answer, or undefined when the other is gone
   */
  request(from: number, to: number, answer: (reply: Reply) => void, done: (bytes?: Uint8Array) => void): void {
    const { kernel, links, ledger } = this.#c;
    if (!this.#overlay.connected(from, to)) {
      kernel.after(0, () => done());
      return;
    }
    const { historyRequestBytes, frameBytes, streamOpenRoundTrips } = NETWORK_PARAMETERS;
    ledger.move('history', from, to, historyRequestBytes);
    const openMs = streamOpenRoundTrips * links.roundTripMs(from, to);
    kernel.after(openMs + links.oneWayMs(from, to), () => {
      const reply: Reply = (bytes) => {
        if (!bytes || bytes === 'not ready') return void kernel.after(links.oneWayMs(to, from), () => done());
        ledger.move('history', to, from, bytes.length + frameBytes);
        this.#transfers.start(to, from, bytes.length + frameBytes, () => done(bytes));
      };
      if (this.#overlay.connected(from, to)) answer(reply);
      else reply(undefined);
    });
  }

  /** Fetches a blob by its parts from whoever has them. @returns what ends it, unless it is complete */
  fetch(request: FetchRequest): () => void {
    return this.#blobs.fetch(request);
  }

  #present(peer: number): number[] {
    const present: number[] = [];
    for (const [other, endpoint] of this.#endpoints.entries()) {
      if (endpoint && this.#sides[other] === this.#sides[peer]) present.push(other);
    }
    return present;
  }

  #dial(peer: number, other: number, delayMs: number): void {
    const { kernel, links } = this.#c;
    const [life, otherLife] = [this.#lives[peer], this.#lives[other]];
    kernel.after(delayMs + NETWORK_PARAMETERS.dialRoundTrips * links.roundTripMs(peer, other), () => {
      const stale = this.#lives[peer] !== life || this.#lives[other] !== otherLife;
      if (stale || this.#sides[peer] !== this.#sides[other] || this.#overlay.connected(peer, other)) return;
      this.#overlay.link(peer, other);
      this.#endpoints[peer]?.onConnection(other, true);
      this.#endpoints[other]?.onConnection(peer, true);
    });
  }

  #disconnect(a: number, b: number): void {
    this.#overlay.unlink(a, b);
    this.#blobs.onDisconnect(a, b);
  }

  #tell(peer: number, about: number, up: boolean, delayMs: number): void {
    const life = this.#lives[peer];
    this.#c.kernel.after(delayMs, () => {
      // what has been connected again meanwhile was never missed
      if (this.#lives[peer] === life && this.#overlay.connected(peer, about) === up) {
        this.#endpoints[peer]?.onConnection(about, up);
      }
    });
  }

  #sayableOf(message: Message) {
    let known = this.#sayable.get(message);
    if (!known) {
      const bytes = encodeMessage(message);
      const name = createHash('sha256').update(bytes).digest('base64');
      known = { name, received: decodeMessage(bytes, this.#run, this.#c.signer), size: bytes.length };
      this.#sayable.set(message, known);
      this.#c.onNew(known.received);
    }
    return known;
  }

  #sending(message: Message): Sending {
    const { received, size } = this.#sayableOf(message);
    return { message: received, number: this.#messages++, size };
  }

  #wasSaid(from: number, hash: string): boolean {
    const { nowMs } = this.#c.kernel;
    const name = `${from}/${hash}`;
    if (this.#seen.has(name, nowMs)) return true;
    // nobody to hear it: not marked as seen, so that it can be published again
    if (this.#overlay.neighbours(from).size > 0) this.#seen.add(name, nowMs);
    return false;
  }
}
